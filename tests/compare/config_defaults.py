"""What a field means that config.json does not have: pregate beside Hugging Face transformers, field by field.

Of every family a config.json is written in which each field that pregate reads has a value unlike the class's own, once in the
spelling of transformers 5 (rope_parameters) and once in the older one (rope_theta, rope_scaling). Then each field is left out, one
at a time; transformers reads what is left and makes a random model of it. `pregate logits` must give transformers' logits, or
refuse the config by that field's name. Needs torch, transformers and safetensors.
usage: config_defaults.py --pregate build/release/bin/pregate [--seed S]
"""
import copy
import json
import warnings

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from architectures import LLAMA3, YARN, long_rope
from pregate_cli import Failed, write_json
from random_models import distance, logits_of, randomize, run_cases

SHAPES = dict(vocab_size=320, hidden_size=64, intermediate_size=144, num_hidden_layers=3, num_attention_heads=8,
              num_key_value_heads=2, max_position_embeddings=6000, rms_norm_eps=1e-2, hidden_act="silu", bos_token_id=1,
              eos_token_id=2, pad_token_id=0)
WIDE = {"num_attention_heads": 32, "hidden_size": 128, "intermediate_size": 80, "num_hidden_layers": 2}  # of 32 KV heads
PLAIN = {"rope_type": "default", "rope_theta": 3e5}
LINEAR = {"rope_type": "linear", "rope_theta": 3e5, "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 3e5, "factor": 4.0}
FULL_YARN = {**YARN, "rope_theta": 3e5, "beta_fast": 20.0, "beta_slow": 2.0, "truncate": False, "attention_factor": 1.3}
MSCALE = {**YARN, "mscale": 0.7, "mscale_all_dim": 0.4}
LONG = {**long_rope(8, 256), "rope_theta": 3e5, "factor": 9.0, "attention_factor": 1.2}
SWITCHED = {"use_sliding_window": True, "sliding_window": 50, "max_window_layers": 1}
PARTS = {"partial_rotary_factor": 0.75}

CASES = [  # family, its fields, RoPE
    ("llama", {"attention_bias": True, "tie_word_embeddings": True, "head_dim": 12}, LLAMA3),
    ("llama", {"tie_word_embeddings": True, "mlp_bias": False}, LINEAR),
    ("llama", {"tie_word_embeddings": True}, DYNAMIC),
    ("mistral", {"sliding_window": 50, "tie_word_embeddings": True, "head_dim": 12}, FULL_YARN),
    ("qwen2", {**WIDE, **SWITCHED, "tie_word_embeddings": True}, MSCALE),
    ("qwen2", {**WIDE, **SWITCHED, "max_window_layers": 0, "layer_types": ["full_attention", "sliding_attention"]}, PLAIN),
    ("qwen3", {**WIDE, **SWITCHED, "attention_bias": True, "tie_word_embeddings": True, "head_dim": 8}, PLAIN),
    ("smollm3", {**SWITCHED, "no_rope_layers": [0, 1, 1], "attention_bias": True, "tie_word_embeddings": False}, PLAIN),
    ("smollm3", {**SWITCHED, "no_rope_layers": [0, 1, 1], "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                 "tie_word_embeddings": False}, PLAIN),
    ("smollm3", {"no_rope_layer_interval": 2, "tie_word_embeddings": False}, PLAIN),
    ("phi3", {"sliding_window": 50, "tie_word_embeddings": True}, {**PLAIN, **PARTS}),
    ("phi3", {"original_max_position_embeddings": 256, "tie_word_embeddings": True}, LONG),
    ("granite", {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.0625,
                 "logits_scaling": 8.0, "attention_bias": True, "tie_word_embeddings": True}, PLAIN),
]
LENGTHS = [1, 300]
PAST_DEFAULT_WINDOW = 4300
PARAMETERS_MAX = 8_000_000  # of a model that is made; what is larger must be refused


def spellings(fields, rope):
    yield "new", {**fields, "rope_parameters": rope}
    scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    older = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    yield "old", {**fields, **older, **({} if scaling["rope_type"] == "default" else {"rope_scaling": scaling})}


def without_each(config):
    """(name of what is left out, config without it)"""
    for key in config:
        if key not in ("model_type", "pad_token_id"):
            yield key, {k: v for k, v in config.items() if k != key}
    for outer in ("rope_parameters", "rope_scaling"):
        for key in config.get(outer, {}):
            left = copy.deepcopy(config)
            del left[outer][key]
            yield key, left


def reference(folder):
    """transformers' model of folder/config.json, or why there is none."""
    try:
        config = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        if sum(p.numel() for p in model.parameters()) > PARAMETERS_MAX:
            return None, "too large"
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().eval(), ""
    except Exception as error:  # whatever it raises of a config that it does not take
        return None, f"transformers: {type(error).__name__}"


@torch.no_grad()
def compare(args, folder, left_out, config):
    """(whether it is right, what happened)"""
    text = json.dumps(config)
    write_json(folder / "config.json", config)
    model, why = reference(folder)
    lengths = LENGTHS + ([PAST_DEFAULT_WINDOW] if left_out == "sliding_window" else [])
    lists = [torch.randint(3, SHAPES["vocab_size"], (1, n)) for n in lengths]
    expected = None
    if model is not None:
        randomize(model)
        model.save_pretrained(folder)
        try:
            expected = [model(ids).logits[0].double() for ids in lists]
        except Exception as error:  # a config that it takes, but cannot run
            why = f"transformers: {type(error).__name__} when it runs"
    (folder / "config.json").write_text(text)  # transformers writes what it took for granted
    (folder / "generation_config.json").unlink(missing_ok=True)
    try:
        ours = logits_of(args.pregate, folder, lists, folder)
    except Failed as failure:
        return left_out in failure.said, f"{why or 'transformers takes it'}; refused: {failure.said.strip()[-100:]}"
    if expected is None:
        return False, f"{why}; pregate takes it"
    error = distance(ours, expected)
    return error <= args.tolerance, f"error {error:.1e}"


def check(args, report, family, fields, rope, scratch):
    warnings.simplefilter("ignore")
    whole = {"model_type": family, **SHAPES, **fields}
    for spelling, config in spellings(whole, rope):
        # The old spelling differs in RoPE alone.
        for left_out, left in [("nothing", config), *without_each(config)]:
            if spelling == "old" and left_out in whole and left_out != "original_max_position_embeddings":
                continue
            folder = scratch / "model"
            folder.mkdir(exist_ok=True)
            right, outcome = compare(args, folder, left_out, left)
            report.check(right, f"{family}, {rope['rope_type']}, {spelling}, without {left_out}: {outcome}")
            for file in folder.iterdir():
                file.unlink()


if __name__ == "__main__":
    run_cases(__doc__, CASES, check)
