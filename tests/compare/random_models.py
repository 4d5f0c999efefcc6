"""What the comparisons over random models share: transformers' models, their logits beside ours, and the loop over cases."""
import pathlib
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from pregate_cli import Report, parse_seeded_args, run, write_json

BASE = dict(vocab_size=320, hidden_size=64, intermediate_size=144, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=False,
            bos_token_id=1, eos_token_id=2, pad_token_id=0)


def random_model(family, changes):
    config = AutoConfig.for_model(family, **{**BASE, **changes})
    return randomize(AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval())


@torch.no_grad()
def randomize(model):
    for name, parameter in model.named_parameters():  # what transformers starts with is nearly zero, so nearly linear
        norm = name.endswith("norm.weight")
        scale = 0.3 if norm or name.endswith("bias") else parameter.shape[-1] ** -0.5
        parameter.copy_(torch.randn(parameter.shape) * scale + norm)
    return model


def logits_of(pregate, model_dir, lists, scratch, *flags):
    """pregate's logits [n, vocab] f64 of each list of ids [1, n]."""
    tokens = write_json(scratch / "tokens.json", [ids[0].tolist() for ids in lists])
    run(pregate, "logits", "--model", model_dir, "--tokens", tokens, "--out", scratch / "out.safetensors", *flags)
    ours = load_file(scratch / "out.safetensors")
    return [ours[f"{k}.logits"].double() for k in range(len(lists))]


def distance(found, expected):
    """|found - expected| / |expected|, the worst of the lists."""
    return max(((ours - theirs).norm() / theirs.norm()).item() for ours, theirs in zip(found, expected, strict=True))


def run_cases(description, cases, check, heading="", finish=lambda args: None, options=()):
    """Calls check(args, report, *case, scratch folder) for each case and finish(args), and ends the script."""
    args = parse_seeded_args(description, *options)
    torch.manual_seed(args.seed)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    report = Report()
    if heading:
        print(heading)
    for case in cases:
        with tempfile.TemporaryDirectory() as scratch:
            check(args, report, *case, pathlib.Path(scratch))
    finish(args)
    report.exit()
