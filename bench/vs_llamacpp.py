"""SmolLM2 on this machine: pregate beside llama.cpp, alternating in one run, two threads each.

Needs llama-cpp-python (PyPI). Writes one JSON with medians and ratios.
usage: vs_llamacpp.py --step-bench build/release/bin/step_bench --dense GGUF --moe DIR --out FILE [--rounds 3]
llama.cpp's f32, f16 and bf16 files are made from the GGUF by its own quantizer and kept beside --work.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import llama_cpp

import machine

FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32}


def convert(gguf, kind, work):
    """llama.cpp's own requantisation of the Q4_1 file: same weights, wider type."""
    out = work / f"llama-{kind}.gguf"
    if not out.exists():
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = FILE_TYPES[kind]
        params.allow_requantize = True
        assert llama_cpp.llama_model_quantize(str(gguf).encode(), str(out).encode(), params) == 0
    return out


class Peer:
    """One llama.cpp model: prefill of a prompt and decode at batch 1."""

    def __init__(self, path, threads):
        self.llm = llama_cpp.Llama(str(path), n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads,
                                   n_threads_batch=threads, verbose=False)

    def prefill_s(self, tokens):
        self.llm.reset()
        start = time.perf_counter()
        self.llm.eval([(i * 7919) % 40000 + 100 for i in range(tokens)])
        return time.perf_counter() - start

    def decode_s(self, steps):
        self.llm.reset()
        self.llm.eval(list(range(100, 132)))
        times = []
        for i in range(steps):
            start = time.perf_counter()
            self.llm.eval([(i * 104729) % 40000 + 100])
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def ours(step_bench, model, dtype, threads, prefill, decode):
    run = subprocess.run([step_bench, "--model", model, "--dtype", dtype, "--threads", str(threads),
                          "--prefill", str(prefill), "--decode", str(decode), "--batches", "1"],
                         check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-bench", required=True)
    parser.add_argument("--dense", required=True, type=pathlib.Path)
    parser.add_argument("--moe", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".cache/bench"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    samples, bandwidth, token_mb = {}, [], {}
    def add(name, prefill_s, decode_s):
        entry = samples.setdefault(name, {"prefill_s": [], "decode_s": []})
        entry["prefill_s"].append(prefill_s)
        entry["decode_s"].append(decode_s)

    for round_index in range(args.rounds):
        for kind in FILE_TYPES:
            peer = Peer(convert(args.dense, kind, args.work), args.threads)
            peer.prefill_s(args.prefill)  # warm up
            add(f"llama.cpp {kind}", peer.prefill_s(args.prefill), peer.decode_s(args.decode))
            del peer
        for name, model in (("dense", str(args.dense)), ("moe", args.moe)):
            for dtype in ("f32", "bf16"):
                report = ours(args.step_bench, model, dtype, args.threads, args.prefill, args.decode)
                add(f"pregate {name} {dtype}", report["prefill"]["seconds"],
                    report["decode"][0]["step_ms_median"] / 1e3)
                bandwidth.append(report["read_gb_per_s"])
                token_mb[f"pregate {name} {dtype}"] = report["token_mb"]
        print(f"round {round_index + 1} of {args.rounds} done", file=sys.stderr)

    rows = {name: {"prefill_tokens_per_s": args.prefill / statistics.median(s["prefill_s"]),
                   "decode_tokens_per_s": 1 / statistics.median(s["decode_s"])}
            for name, s in samples.items()}
    read = statistics.median(bandwidth)
    for name, mb in token_mb.items():
        rows[name]["share_of_read_floor"] = rows[name]["decode_tokens_per_s"] * mb / 1e3 / read
    best_decode = max(rows[f"llama.cpp {k}"]["decode_tokens_per_s"] for k in ("f16", "bf16"))
    best_prefill = max(rows[f"llama.cpp {k}"]["prefill_tokens_per_s"] for k in FILE_TYPES)
    report = {"machine": machine.describe(), "threads": args.threads, "rounds": args.rounds,
              "prefill_tokens": args.prefill, "read_gb_per_s": read, "rows": rows,
              "ratios": {n: {"decode_vs_fastest_16bit": r["decode_tokens_per_s"] / best_decode,
                             "prefill_vs_fastest": r["prefill_tokens_per_s"] / best_prefill}
                         for n, r in rows.items() if n.startswith("pregate")}}
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
