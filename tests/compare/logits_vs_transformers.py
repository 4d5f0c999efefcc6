"""A GGUF model in pregate against Hugging Face transformers: float32, CPU, the same dequantised weights.

Logits of a few token lists: relative error |a - b| / |b| of each list within a tolerance. Greedy continuations of 20
prompts: equal ids. Where they depart, the margin between transformers' two best logits there tells a near tie from
an error. Needs the Python packages torch, transformers, accelerate, gguf and safetensors.
"""
import argparse
import pathlib
import random
import tempfile

import gguf
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from pregate_cli import Report, run, run_json, write_json

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "Question: What is 17 + 25?\nAnswer:",
    "In 1969, Apollo 11 landed on",
    "#include <stdio.h>\n\nint main(void) {\n",
    "Dear Sir or Madam,\n\nI am writing to",
    "The three laws of thermodynamics are:\n1.",
    "We present a new method for training neural networks that",
    "Ingredients:\n- 2 cups of flour\n- 1 tsp of salt\n-",
    "Les Misérables est un roman de",
    "SELECT name, COUNT(*) FROM orders WHERE",
    "\"I never said that,\" she whispered,",
    "The mitochondrion is the powerhouse of",
    "Proof. Let $x \\in \\mathbb{R}$ and suppose that",
    "<html>\n<head>\n<title>",
    "Monday, Tuesday, Wednesday,",
    "The quick brown fox jumps over the lazy dog. The quick brown fox",
    "Water boils at 100 degrees Celsius, which is",
    "Q: Why is the sky blue?\nA: Because",
]
STOP_TEXTS = ["<|im_end|>", "<|endoftext|>"]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pregate", required=True, help="the pregate program")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="GGUF file")
    parser.add_argument("--ours", help="the same model as pregate shall read it (default: --model)")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="how many of the prompts")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31), help="of the random token list")
    return parser.parse_args()


class Reference:
    """transformers' model of a GGUF file."""

    def __init__(self, path):
        self.model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
        tokens = gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
        eos = self.model.config.eos_token_id
        self.stops = {id for id, text in enumerate(tokens) if text in STOP_TEXTS}
        self.stops |= set(eos if isinstance(eos, list) else [eos])

    @torch.no_grad()
    def logits(self, ids):
        return self.model(torch.tensor([ids])).logits[0]

    @torch.no_grad()
    def greedy(self, ids, max_tokens):
        """Ids and, for each, the margin of its logit over the second best; ends before a stop token."""
        out, margins, cache = [], [], None
        step = torch.tensor([ids])
        for _ in range(max_tokens):
            result = self.model(step, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            best = torch.topk(result.logits[0, -1], 2)
            margins.append((best.values[0] - best.values[1]).item())
            if best.indices[0].item() in self.stops:
                break
            out.append(best.indices[0].item())
            step = best.indices[:1].view(1, 1)
        return out, margins


def check_logits(args, reference, report, scratch, prompts):
    print("seed", args.seed)
    rng = random.Random(args.seed)
    vocab_size = reference.model.config.vocab_size
    text = [id for ids in prompts for id in ids]
    lists = [text[:1], prompts[-1], text[:200], [rng.randrange(vocab_size) for _ in range(300)]]
    out = scratch / "logits.safetensors"
    tokens = write_json(scratch / "tokens.json", lists)
    run(args.pregate, "logits", "--model", args.ours or args.model, "--tokens", tokens, "--out", out)
    ours = load_file(out)
    for k, ids in enumerate(lists):
        theirs = reference.logits(ids).double()
        error = ((ours[f"{k}.logits"].double() - theirs).norm() / theirs.norm()).item()
        report.check(error <= args.tolerance, f"logits of list {k} ({len(ids)} tokens): relative error {error:.2e}")


def check_greedy(args, reference, report, prompt, prompt_ids):
    ours = run_json(args.pregate, "generate", "--model", args.ours or args.model, "--prompt", prompt,
                    "--max-tokens", args.max_tokens, "--temperature", 0)["ids"]
    if ours and ours[-1] in reference.stops:
        ours = ours[:-1]
    theirs, margins = reference.greedy(prompt_ids, args.max_tokens)
    line = f"greedy {prompt[:40]!r}: {len(theirs)} tokens, smallest margin {min(margins):.2e}"
    if ours != theirs:
        both = zip(ours, theirs)
        at = next((i for i, (a, b) in enumerate(both) if a != b), min(len(ours), len(theirs)))
        margin = margins[at] if at < len(margins) else float("nan")
        line += f"; departs at {at} with a margin of {margin:.2e}: ours {ours[at:at + 3]}, theirs {theirs[at:at + 3]}"
    report.check(ours == theirs, line)


def main():
    args = parse_args()
    report = Report()
    reference = Reference(args.model)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)

        def tokenize(prompt):
            (scratch / "prompt").write_text(prompt, newline="")
            return run_json(args.pregate, "tokenize", "--model", args.ours or args.model,
                            "--text-file", scratch / "prompt")["ids"]

        prompts = PROMPTS[:args.prompts]
        ids = [tokenize(prompt) for prompt in prompts]
        check_logits(args, reference, report, scratch, ids)
        for prompt, prompt_ids in zip(prompts, ids):
            check_greedy(args, reference, report, prompt, prompt_ids)
    report.exit()


if __name__ == "__main__":
    main()
