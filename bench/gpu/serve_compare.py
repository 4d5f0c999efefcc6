"""The same greedy requests to two clusters, router + scheduler + worker over gRPC: one worker on the CPU, one on a card.

Prints one JSON object: for each prompt whether the texts are equal, and where they part by how much the CPU's best logit
leads there (a near tie) or does not (a fault); tokens per second and TTFT of both; then the card again with few expert
slots, whose text must be the card's own. usage: serve_compare.py BIN_DIR MODEL_DIR [--max-tokens 64] [--dtype bf16]
"""
import argparse
import json
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile

PROMPTS = [
    "The capital of France is", "Once upon a time there was a small robot who", "def fibonacci(n):\n",
    "The theory of relativity says that", "In 1969, the first human", "Photosynthesis is the process by which",
    "SELECT name FROM users WHERE", "My favourite recipe for soup begins with", "The proof follows by induction on",
    "Dear Sir or Madam,\n\n", "Breaking news: scientists have", "The river runs through the valley and",
    "import numpy as np\n\ndef softmax(x):", "Question: What is the boiling point of water?\nAnswer:",
    "Theorem 1. Let G be a finite group. Then", "The old man and the sea"]


def run(*command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


class Cluster:
    def __init__(self, args, *worker_flags):
        self.args, self.temp = args, tempfile.TemporaryDirectory()
        at = {name: f"unix:{self.temp.name}/{name}" for name in ("router", "worker", "scheduler")}
        self.server, self.processes = at["scheduler"], []
        free = ["--model", args.model, "--metrics-listen", "127.0.0.1:0", "--log-level", "warn"]
        self.start("pregate-router", *free, "--listen", at["router"], "--threads", "4")
        self.start("pregate-worker", *free, "--listen", at["worker"], "--dtype", args.dtype, *worker_flags)
        self.start("pregate-scheduler", *free, "--listen", self.server, "--router", at["router"], "--workers",
                   at["worker"])

    def start(self, program, *flags):
        self.processes.append(subprocess.Popen([self.args.bin / program, *map(str, flags)], stderr=sys.stderr))

    def __enter__(self):
        self.generate("warm up", "--wait-s", "120")
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        self.temp.cleanup()

    def generate(self, prompt, *flags):
        return json.loads(run(self.args.bin / "pregate", "generate", "--server", self.server, "--prompt", prompt,
                              "--max-tokens", self.args.max_tokens, "--temperature", "0", "--seed", "1",
                              "--ignore-eos", "--json", *flags))


def read_logits(path, name):
    """Rows of a float32 tensor of a safetensors file."""
    blob = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", blob[:8])[0]
    entry = json.loads(blob[8:8 + size])[name]
    begin, end = entry["data_offsets"]
    rows, width = entry["shape"]
    values = struct.unpack(f"<{rows * width}f", blob[8 + size + begin:8 + size + end])
    return [values[r * width:(r + 1) * width] for r in range(rows)]


def margin_where_they_part(args, prompt, cpu, cuda):
    """The CPU's logits of the two tokens at the first difference, by the same program without services."""
    at = next(i for i, (a, b) in enumerate(zip(cpu["ids"], cuda["ids"])) if a != b)
    with tempfile.TemporaryDirectory() as temp:
        text, lists, out = (pathlib.Path(temp, name) for name in ("t.txt", "t.json", "o.safetensors"))
        text.write_text(prompt)
        tokens = json.loads(run(args.bin / "pregate", "tokenize", "--model", args.model, "--text-file", text,
                                "--json"))["ids"]
        lists.write_text(json.dumps([tokens + cpu["ids"][:at]]))
        run(args.bin / "pregate", "logits", "--model", args.model, "--tokens", lists, "--out", out, "--dtype", args.dtype,
            "--json")
        last = read_logits(out, "0.logits")[-1]
    return {"at_token": at, "cpu_token": cpu["ids"][at], "cuda_token": cuda["ids"][at],
            "cpu_logit": last[cpu["ids"][at]], "cpu_logit_of_cuda_token": last[cuda["ids"][at]],
            "margin": last[cpu["ids"][at]] - last[cuda["ids"][at]], "standard_deviation": statistics.pstdev(last)}


def speed(answers):
    return {"tokens_per_s_median": statistics.median(a["tokens_per_s"] for a in answers),
            "ttft_ms_median": statistics.median(a["ttft_s"] for a in answers) * 1e3}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=pathlib.Path)
    parser.add_argument("model")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="bf16")
    args = parser.parse_args()
    answers = {}
    for name, flags in {"cpu": ["--device", "cpu"], "cuda": ["--device", "cuda"],
                        "cuda, 2 expert slots": ["--device", "cuda", "--expert-slots", "2"],
                        "cuda, exchange over NCCL": ["--device", "cuda", "--exchange-alone", "on"]}.items():
        with Cluster(args, *flags) as cluster:
            answers[name] = [cluster.generate(prompt) for prompt in PROMPTS]
    report = {"max_tokens": args.max_tokens, "dtype": args.dtype, "prompts": [],
              "speed": {name: speed(a) for name, a in answers.items()}}
    for i, prompt in enumerate(PROMPTS):
        cpu, cuda = answers["cpu"][i], answers["cuda"][i]
        entry = {"prompt": prompt, "text_equal": cpu["ids"] == cuda["ids"],
                 "prompt_routes_equal": cpu["prompt_routes"] == cuda["prompt_routes"], "cuda_text": cuda["text"]}
        for name in list(answers)[2:]:
            entry[f"equal to the card's own: {name}"] = answers[name][i]["ids"] == cuda["ids"]
        if not entry["text_equal"]:
            entry["part"] = margin_where_they_part(args, prompt, cpu, cuda)
        report["prompts"].append(entry)
    report["num_equal"] = sum(p["text_equal"] for p in report["prompts"])
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
