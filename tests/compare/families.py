"""The table of docs/MODELS.md: what each family of models was compared with, and how near it came.

Each family's models of architectures.py beside Hugging Face transformers, in float32 and in bf16; then one of them is served, and
prompts of unequal length that are answered together must get the ids that each gets alone. Needs torch, transformers, safetensors
and gguf.
usage: families.py --pregate build/release/bin/pregate [--seed S] [--write docs/MODELS.md]
"""
import concurrent.futures
import json
import pathlib
import shutil
import subprocess
import time
import urllib.request

from architectures import CASES, GGUF_FORMS, compare
from pregate_cli import run, run_json
from random_models import random_model, run_cases
from refactor_families import FAMILIES, VOCAB_SIZE

ROWS = {  # family: name, beyond Llama, compared with
    "llama": ("Llama 1 to 3.x", "`attention_bias`; RoPE: linear, dynamic, Llama-3, YaRN", "up to 1,900 tokens"),
    "mistral": ("Mistral", "`sliding_window` in every layer", "windows of 48 and 600, past them"),
    "qwen2": ("Qwen 2, 2.5", "biases of q, k, v; windows from a layer on", "windows, YaRN, tied"),
    "qwen3": ("Qwen 3", "norms of q and k; windows by `layer_types`", "biases and windows too"),
    "smollm3": ("SmolLM 3", "layers without positions", "every fourth, and chosen ones"),
    "phi3": ("Phi 3, 3.5, 4-mini", "fused tensors, heads rotated in part, LongRoPE, windows", "both sides of the original context"),
    "granite": ("Granite 3", "multipliers", "biases, tied"),
}
HEADING = ["family", "`model_type`", "GGUF", "beyond Llama", "compared with", "models", "f32", "bf16", "transformers' bf16", "together"]
BEGIN, END = "<!-- made by tests/compare/families.py -->", "<!-- end -->"
WORDS = "the cat sat on the mat and the dog ran after it all the way home through wet grass past a house of red stone".split()
PROMPTS = [" ".join(WORDS[first:first + count]) for first, count in ((0, 1), (3, 2), (1, 24), (7, 9), (0, 17), (5, 4))] + [
    " ".join(WORDS * 8)]
TABLE = []  # its rows so far
TOKENS = 300  # enough that the answers run beside each other


def steps_of(ports):
    """How many steps the server of this port file has made."""
    address = json.loads(ports.read_text())["metrics"]
    text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    return sum(float(line.split()[-1]) for line in text.split("\n") if line.startswith("pregate_step_tokens_count"))


def served_together(pregate, family, scratch):
    """The number of prompts that got other ids than alone, and how many of them a step served on average."""
    folder, address = scratch / "served", f"unix:{scratch}/socket"
    random_model(family, {**FAMILIES[family], "vocab_size": VOCAB_SIZE}).save_pretrained(folder)
    run(pregate, "synth", "--shape", "tiny", "--out", scratch / "synth")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(scratch / "synth" / name, folder / name)
    ports = scratch / "ports.json"

    def ids(prompt, *where):
        return run_json(pregate, "generate", *where, "--prompt", prompt, "--max-tokens", TOKENS, "--ignore-eos", "--temperature", 1,
                        "--seed", 7)["ids"]

    with (scratch / "log").open("w") as log:
        server = subprocess.Popen([pregate, "serve", "--model", folder, "--listen", address, "--metrics-listen", "127.0.0.1:0",
                                   "--port-file", ports, "--kv-cache-bytes", "64MiB", "--threads", "2"], stdout=log, stderr=log)
    try:
        while not ports.exists():
            if server.poll() is not None:
                raise SystemExit((scratch / "log").read_text())
            time.sleep(0.02)
        with concurrent.futures.ThreadPoolExecutor(len(PROMPTS)) as pool:
            together = list(pool.map(lambda prompt: ids(prompt, "--server", address), PROMPTS))
        sequences = len(PROMPTS) * TOKENS / steps_of(ports)
        alone = [ids(prompt, "--model", folder) for prompt in PROMPTS]
    finally:
        server.terminate()
        server.wait()
    return sum(a != b for a, b in zip(together, alone, strict=True)), sequences


def check(args, report, family, scratch):
    errors = []
    for number, (_, _, changes, lengths) in enumerate(case for case in CASES if case[0] == family):
        folder = scratch / str(number)
        folder.mkdir()
        errors.append(compare(args, family, changes, lengths, folder))
        shutil.rmtree(folder)
    worst = max(max(e.hf, e.imported, e.gguf or 0) for e in errors)
    half = max(errors, key=lambda e: e.bf16 / e.theirs_bf16)
    differ, sequences = served_together(args.pregate, family, scratch)
    name, beyond, compared = ROWS[family]
    row = [name, f"`{family}`", f"`{GGUF_FORMS[family][0]}`", beyond, compared, str(len(errors)), f"{worst:.1e}", f"{half.bf16:.1e}", f"{half.theirs_bf16:.1e}",
           "equal" if differ == 0 else f"{differ} of {len(PROMPTS)} differ"]
    TABLE.append(row)
    report.check(worst <= args.tolerance and half.bf16 <= half.theirs_bf16 and differ == 0 and sequences > 1.5,
                 f"{line(row)} {sequences:.1f} sequences a step")


def line(cells):
    return f"| {' | '.join(cells)} |"


def write(args):
    if not args.write:
        return
    page = pathlib.Path(args.write)
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    table = "\n".join([line(HEADING), "|" + "---|" * len(HEADING), *map(line, TABLE)])
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    run_cases(__doc__, [(family,) for family in ROWS], check, finish=write, options=["--write"])
