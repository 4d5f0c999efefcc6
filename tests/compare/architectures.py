"""Random checkpoints of every family that is read, written by Hugging Face transformers itself.

Logits of `pregate logits` against transformers' in float32: biases, norms of heads, windows, layers without positions,
multipliers, fused tensors, every kind of RoPE, contexts past windows and past the context of training. Each model is also
imported, and written as GGUF by the names of the `gguf` package where that has a form for it, and compared again. In bf16 it
must stay as near to its float32 as transformers' bf16 to theirs. Needs torch, transformers, safetensors and gguf.
usage: architectures.py --pregate build/release/bin/pregate [--seed S]
"""
import dataclasses
import math

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from pregate_cli import run
from random_models import BASE, distance, logits_of, random_model, run_cases

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 256}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}


def long_rope(dims, original):
    return {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1 + 0.05 * i for i in range(dims // 2)],
            "long_factor": [1.5 + 0.5 * i for i in range(dims // 2)], "original_max_position_embeddings": original}


SHORT, LONG = [1, 5, 33, 200], [1, 700, 1900]
CASES = [  # family, what is special, changes of the config, lengths
    ("llama", "plain", {}, SHORT),
    ("llama", "biases of q, k, v, o", {"attention_bias": True}, SHORT),
    ("llama", "llama3 RoPE", {"rope_parameters": LLAMA3}, LONG),
    ("llama", "linear RoPE", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}, LONG),
    ("llama", "dynamic RoPE, within the context",
     {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}, SHORT),
    ("llama", "YaRN", {"rope_parameters": YARN}, LONG),
    ("mistral", "no window", {"sliding_window": None}, SHORT),
    ("mistral", "window of 48, past it", {"sliding_window": 48}, LONG),
    ("mistral", "window of 600, a head width of its own", {"sliding_window": 600, "head_dim": 24}, LONG),
    ("qwen2", "biases of q, k, v", {}, SHORT),
    ("qwen2", "tied, YaRN", {"tie_word_embeddings": True, "rope_parameters": YARN}, LONG),
    ("qwen2", "windows from layer 2 on",
     {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 2}, LONG),
    ("qwen3", "norms of q and k", {"head_dim": 32}, SHORT),
    ("qwen3", "biases too, windows by layer_types",
     {"head_dim": 16, "attention_bias": True, "use_sliding_window": True, "sliding_window": 70,
      "layer_types": ["full_attention", "sliding_attention"] * 2}, LONG),
    ("smollm3", "every fourth layer without positions", {}, LONG),
    ("smollm3", "chosen layers without positions", {"no_rope_layers": [0, 1, 1, 0]}, SHORT),
    ("phi3", "fused tensors", {}, SHORT),
    ("phi3", "three quarters rotated, window of 90",
     {"sliding_window": 90, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75}},
     LONG),
    ("phi3", "LongRoPE, short contexts",
     {"original_max_position_embeddings": 256, "rope_parameters": long_rope(16, 256)}, SHORT),
    ("phi3", "LongRoPE, long contexts",
     {"original_max_position_embeddings": 256, "rope_parameters": long_rope(16, 256)}, [700, 1900]),
    ("granite", "multipliers", {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0,
                                "attention_multiplier": 0.0625}, SHORT),
    ("granite", "multipliers, biases, tied",
     {"embedding_multiplier": 11.5, "residual_multiplier": 0.3, "logits_scaling": 5.3, "attention_multiplier": 0.2,
      "attention_bias": True, "tie_word_embeddings": True}, LONG),
]


# GGUF's architecture, and whether its rows of q and k are permuted for interleaved RoPE.
GGUF_FORMS = {"llama": ("llama", True), "mistral": ("llama", True), "qwen2": ("qwen2", False), "qwen3": ("qwen3", False),
              "smollm3": ("smollm3", True), "phi3": ("phi3", False), "granite": ("granite", True)}


def interleaved(values, heads):
    return values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def add_rope(writer, config, dims):
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(dims)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "longrope":
        original = rope["original_max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
        factor = config.max_position_embeddings / original
        writer.add_rope_scaling_attn_factors((1 + math.log(factor) / math.log(original)) ** 0.5)
        for name in ("short", "long"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.array(rope[f"{name}_factor"], dtype=np.float32))


def write_gguf(model, path):
    """False where GGUF has no form for what the model is."""
    config = model.config
    name, permuted = GGUF_FORMS[config.model_type]
    rope, layers = config.rope_parameters, getattr(config, "layer_types", None) or []
    if rope["rope_type"] in ("llama3", "dynamic") or "sliding_attention" in layers or \
            getattr(config, "no_rope_layers", [1, 1, 1, 0]) != [1, 1, 1, 0]:
        return False
    writer = gguf.GGUFWriter(path, name)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if config.model_type in ("mistral", "phi3") and config.sliding_window:
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "granite":
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    add_rope(writer, config, int(head_dim * rope.get("partial_rotary_factor", 1)))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[name.upper()], config.num_hidden_layers)
    for ours, tensor in model.state_dict().items():
        if ours == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if permuted and f".{part}." in ours:
                values = interleaved(values, heads)
        stem, suffix = ours.rsplit(".", 1)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return True


def as_bf16(folder):
    """transformers' model with weights and arithmetic in bfloat16; RoPE's tables stay float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()


@dataclasses.dataclass
class Errors:
    """Each the worst of the lists: |a - b| / |b| over all logits of a list."""
    hf: float  # ours to transformers', float32
    imported: float
    gguf: float | None  # None: GGUF has no form for the model
    bf16: float  # ours in bf16 to ours in float32
    theirs_bf16: float  # transformers' in bf16 to transformers' in float32


@torch.no_grad()
def compare(args, family, changes, lengths, scratch):
    model = random_model(family, changes)
    folder = scratch / "model"
    model.save_pretrained(folder)
    lists = [torch.randint(3, BASE["vocab_size"], (1, n)) for n in lengths]
    # One list a time: what RoPE does may depend on how long it is.
    expected = [model(ids).logits[0].double() for ids in lists]
    ours = logits_of(args.pregate, folder, lists, scratch)
    run(args.pregate, "import", "--from", "hf", "--in", folder, "--out", scratch / "ours")
    has_gguf = write_gguf(model, scratch / "model.gguf")
    half = as_bf16(folder)
    return Errors(
        hf=distance(ours, expected),
        imported=distance(logits_of(args.pregate, scratch / "ours", lists, scratch), expected),
        gguf=distance(logits_of(args.pregate, scratch / "model.gguf", lists, scratch), expected) if has_gguf else None,
        bf16=distance(logits_of(args.pregate, folder, lists, scratch, "--dtype", "bf16"), ours),
        theirs_bf16=distance([half(ids).logits[0].double() for ids in lists], expected))


def check(args, report, family, special, changes, lengths, scratch):
    errors = compare(args, family, changes, lengths, scratch)
    report.check(max(errors.hf, errors.imported, errors.gguf or 0) <= args.tolerance and errors.bf16 <= errors.theirs_bf16,
                 f"| {family} | {special} | up to {max(lengths)} | {errors.hf:.1e} | {errors.imported:.1e} | "
                 f"{'no form' if errors.gguf is None else f'{errors.gguf:.1e}'} | {errors.bf16:.1e} | {errors.theirs_bf16:.1e} |")


if __name__ == "__main__":
    run_cases(__doc__, CASES, check, heading="     | family | what is special | tokens | error | imported | as GGUF | bf16 to f32 | "
              "transformers' bf16 to f32 |")
