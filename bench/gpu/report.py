"""Merges what run.sh's stages left in a folder into one JSON, and prints a short table.

usage: report.py FOLDER; writes FOLDER/gpu-CARD.json.
"""
import json
import pathlib
import re
import sys

import kernel_times


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def trace_tables(folder):
    launches = read_json(folder / "trace.json")
    if launches is None or not (folder / "trace.csv").exists():
        return None
    return kernel_times.tables(folder / "trace.csv", list(launches))


def print_tables(report):
    bench = report.get("step_bench") or {}
    for row in bench.get("decode", []):
        print(f"decode {row['batch']:3d}: {row['step_ms_median']:.2f} ms, floor {row['floor_ms']:.2f}, "
              f"x{row['times_floor']:.2f}, enqueue {row['enqueue_ms_median']:.2f}, {row['launches_per_step']:.0f} launches")
    if "prefill" in bench:
        row = bench["prefill"]
        print(f"prefill {row['tokens']}: {row['ms_median']:.1f} ms, floor {row['floor_ms']:.1f}, x{row['times_floor']:.2f}")
    for key in ("slots", "exchange_alone"):
        for row in (report.get(key) or {}).get("slots", []):
            decode = ", ".join(f"batch {d['batch']} {d['step_ms_mean']:.2f} ms (stall {d['stall_ms_mean']:.2f})"
                               for d in row["decode"])
            print(f"{key} {row['expert_slots']}: {decode}, prefill {row['prefill']['step_ms_mean']:.2f} ms")
    if serve := report.get("serve"):
        print(f"serve: {serve['num_equal']} of {len(serve['prompts'])} texts equal, {serve['speed']}")
    for key in ("logits_smollm2", "logits_llama2_7b"):
        for pair, row in ((report.get(key) or {}).get("pairs") or {}).items():
            print(f"{key}: {pair:26s} error {row['relative_error']:.2e} worst {row['relative_error_worst_token']:.2e} "
                  f"agreement {row['argmax_agreement']:.4f}")
    for run in (report.get("stream") or {}).get("runs", []):
        print(f"{run['streams']} streams: TTFT p50 {run['ttft_ms_p50']:.1f} ms, ITL p50 {run['itl_ms_p50']:.2f}, "
              f"p99 {run['itl_ms_p99']:.2f}, {run['tokens_per_s']:.0f} tokens/s")
    for step, table in (report.get("trace") or {}).items():
        print(f"{step}: {table['us']:.0f} us, {table['launches']} launches")
        for name, row in list(table["kernels"].items())[:12]:
            print(f"  {name:90s} {row['launches']:4d} {row['us']:9.0f} us, {row['us_each']:.1f} each")


def main():
    folder = pathlib.Path(sys.argv[1])
    stages = [line.split() for line in (folder / "stages.txt").read_text().splitlines()]
    card = (folder / "card.txt").read_text().strip()
    commit = (pathlib.Path(__file__).parent / "commit")
    report = {
        "card": card,
        "commit": commit.read_text().strip() if commit.exists() else "unknown",
        "stages": {name: {"status": int(status), "seconds": int(seconds)} for name, status, seconds in stages},
        "step_bench": read_json(folder / "step-bench.json"),
        "step_kernel": [read_json(path) for path in sorted(folder.glob("step-kernel-*.json"))],
        "logits_smollm2": read_json(folder / "logits-smollm2.json"),
        "logits_llama2_7b": read_json(folder / "logits-llama2-7b.json"),
        "slots": read_json(folder / "slots.json"),
        "exchange_alone": read_json(folder / "exchange-alone.json"),
        "serve": read_json(folder / "serve.json"),
        "families": {path.stem.removeprefix("family-"): read_json(path) for path in sorted(folder.glob("family-*.json"))},
        "router_cuda": read_json(folder / "router-cuda.json"),
        "router_cpu": read_json(folder / "router-cpu.json"),
        "stream": read_json(folder / "stream.json"),
        "step_bench_4k": read_json(folder / "step-bench-4k.json"),
        "trace": trace_tables(folder),
    }
    name = re.sub(r"[^a-z0-9]+", "-", card.split(",")[0].lower()).strip("-")
    (folder / f"gpu-{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print_tables(report)


if __name__ == "__main__":
    main()
