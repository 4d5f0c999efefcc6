"""Refactors, routes and serves one random model of every family, end to end.

A dense checkpoint of transformers' with a window where the family has one, and the synthetic tokenizer, is cut into experts by
`pregate refactor` over two domains of random words. What `pregate generate` (router, scheduler and worker over gRPC) then says
greedily must be what `pregate logits` of the new checkpoint has as its largest, token for token, with all experts on the device
and with one. Needs torch, transformers and safetensors, and programs built with refactor.
usage: refactor_families.py --pregate build/debug/bin/pregate [--seed S] [--keep DIR]; the models stay in DIR/FAMILY
"""
import pathlib
import random
import shutil

import torch
from safetensors.torch import load_file

from pregate_cli import run, run_json, write_json
from random_models import random_model, run_cases

VOCAB_SIZE = 512  # of the synthetic tokenizer
WINDOW = {"sliding_window": 24}
SWITCHED = {**WINDOW, "use_sliding_window": True, "max_window_layers": 2}
FAMILIES = {
    "llama": {"attention_bias": True}, "mistral": WINDOW, "qwen2": SWITCHED, "qwen3": {**SWITCHED, "head_dim": 32},
    "smollm3": {}, "phi3": {**WINDOW, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                                          "partial_rotary_factor": 0.5}},
    "granite": {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0,
                "attention_multiplier": 0.0625}}
PROMPT, TOKENS = "the cat sat on the mat and the dog ran after it all the way", 24


def write_corpus(folder, rng):
    folder.mkdir()
    for domain in ("first", "second"):
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8))) for _ in range(80)]
        (folder / f"{domain}.txt").write_text(" ".join(rng.choices(words, k=12000)))


def greedy(pregate, model, prompt, answer, scratch):
    """The largest logit behind each token of prompt + answer but the last: what should have followed."""
    tokens = write_json(scratch / "tokens.json", [(prompt + answer)[:-1]])
    run(pregate, "logits", "--model", model, "--tokens", tokens, "--out", scratch / "out.safetensors")
    return load_file(scratch / "out.safetensors")["0.logits"].argmax(-1)[len(prompt) - 1:].tolist()


@torch.no_grad()
def check(args, report, family, scratch):
    rng = random.Random(f"{args.seed}/{family}")
    random_model(family, {**FAMILIES[family], "vocab_size": VOCAB_SIZE}).save_pretrained(scratch / "dense")
    run(args.pregate, "synth", "--shape", "tiny", "--out", scratch / "synth")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(scratch / "synth" / name, scratch / "dense" / name)
    write_corpus(scratch / "corpus", rng)
    run(args.pregate, "refactor", "--dense", scratch / "dense", "--corpus", scratch / "corpus", "--out", scratch / "moe",
        "--windows", 4, "--window-tokens", 64, "--refit-windows", 2, "--router-hidden", 32, "--router-steps", 4,
        "--router-batch", 2)
    if args.keep:
        shutil.copytree(scratch / "moe", pathlib.Path(args.keep) / family)
    answers = [run_json(args.pregate, "generate", "--model", scratch / "moe", "--prompt", PROMPT, "--max-tokens", TOKENS,
                        "--ignore-eos", "--expert-slots", slots) for slots in (0, 1)]
    (scratch / "prompt.txt").write_text(PROMPT)
    prompt = run_json(args.pregate, "tokenize", "--model", scratch / "moe", "--text-file", scratch / "prompt.txt")["ids"]
    expected = greedy(args.pregate, scratch / "moe", prompt, answers[0]["ids"], scratch)
    ok = all(answer["ids"] == expected and answer["prompt_tokens"] == len(prompt) for answer in answers)
    report.check(ok and len(expected) == TOKENS,
                 f"{family}: {len(prompt)} + {TOKENS} tokens, {len(set(expected))} different, "
                 f"experts {sorted(set(answers[0]['routes'] + answers[0]['prompt_routes']))}")


if __name__ == "__main__":
    run_cases(__doc__, [(family,) for family in FAMILIES], check, options=["--keep"])
