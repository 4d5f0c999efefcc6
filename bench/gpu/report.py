"""Merges what run.sh's stages left in a folder into one JSON, and prints a short table.

usage: report.py FOLDER; writes FOLDER/gpu-CARD.json.
"""
import json
import pathlib
import re
import sys

import kernel_times

# ms of vLLM 0.24 on an H200 at the active shape, measured by others: a dense model, and its MoE (8 experts of 5504, top 1).
VLLM = {"vLLM 0.24, dense, by others": {1: 3.57, 8: 4.10, 32: 6.22, 128: 14.3},
        "vLLM 0.24, its MoE, by others": {1: 4.23, 8: 8.53, 32: 13.9, 128: 21.9}}


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def read_lines(path):
    """One JSON value a line; what a time limit cut off is left out."""
    values = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            values.append(json.loads(line))
        except ValueError:
            break
    return values


def traced(folder, name, read):
    launches = read_json(folder / f"{name}.json")
    if launches is None or not (folder / f"{name}.csv").exists():
        return None
    return read(folder / f"{name}.csv", list(launches))


def parts_table(folder):
    """The steps' parts (kernel_times.PARTS), and how many experts their tokens named on average."""
    parts = traced(folder, "paper-parts", kernel_times.parts)
    for label, row in (parts or {}).items():
        experts = [step["unique_experts"] for name, step in read_json(folder / "paper-parts.json").items()
                   if name.split(",")[0] == label]
        row["experts_mean"] = sum(experts) / len(experts)
    return parts


def engines(report):
    """[(name, {batch: ms a step}, {batch: why there is none}, ms of a prefill)], of the same run but vLLM's."""
    rows = []
    for key, name in (("step_bench", "pregate, MoE"), ("step_bench_dense", "pregate, dense parent")):
        if bench := report.get(key):
            decode = {row["batch"]: row for row in bench["decode"]}
            prefill = bench.get("prefill", {})
            rows.append((name, {b: row["step_ms_median"] for b, row in decode.items()}, {}, prefill.get("ms_median")))
            rows.append(("  its floor (bytes read; prefill: operations)", {b: row["floor_ms"] for b, row in decode.items()}, {},
                         prefill.get("floor_ms")))
    peers = {}
    for row in report.get("peers") or []:
        if "peer" not in row:
            continue
        _, ms, errors, prefill = peers.setdefault((row["peer"], row["how"]), [f"{row['peer']}: {row['how']}", {}, {}, None])
        if "error" in row:
            errors[row.get("batch", "prefill" if "prefill" in row else "all")] = row["error"]
        elif "prefill" in row:
            peers[row["peer"], row["how"]][3] = row["ms_median"]
        else:
            ms[row["batch"]] = row["step_ms_median"]
    return rows + [tuple(row) for row in peers.values()] + [(name, ms, {}, None) for name, ms in VLLM.items()]


def print_engines(report):
    batches = (1, 8, 32, 128)
    print(f"{'ms':62s}" + "".join(f"{f'batch {b}':>11s}" for b in batches) + "    prefill")
    rows = engines(report)
    for header in report.get("peers") or []:
        for key in ("why_not", "transformers_why_not"):
            if header.get(key):
                print(f"{'PyTorch' if key == 'why_not' else 'transformers'} is left out: {header[key]}")
    for name, ms, errors, prefill in rows:
        cells = [ms.get(b) for b in batches] + [prefill]
        print(f"{name[:61]:62s}" + "".join(f"{'-' if cell is None else format(cell, '.2f'):>11s}" for cell in cells))
        for what, error in errors.items():
            print(f"  {what}: {error}")
    of = {name: (ms, prefill) for name, ms, _, prefill in rows}
    if "pregate, MoE" in of and "pregate, dense parent" in of:
        (moe, moe_prefill), (dense, dense_prefill) = of["pregate, MoE"], of["pregate, dense parent"]
        gains = [f"batch {b} {moe[b] / dense[b] - 1:+.0%}" for b in batches if b in moe and b in dense]
        if moe_prefill and dense_prefill:
            gains.append(f"prefill {moe_prefill / dense_prefill - 1:+.0%}")
        print("MoE's time against its dense parent's: " + ", ".join(gains))


def print_paper(report):
    by_batch = {}
    for row in (report.get("paper_experts") or {}).get("experts_in_batch", []):
        by_batch.setdefault(row["batch"], []).append(f"{row['unique_experts']}: {row['step_ms_median']:.2f} ({row['floor_ms']:.2f})")
    for batch, cells in by_batch.items():
        print(f"ms (floor) by unique experts, forced, batch {batch}: " + ", ".join(cells))
    for label, row in (report.get("paper_parts") or {}).items():
        print(f"{label}, launches, {row['experts_mean']:.1f} experts, ms of {row['step']:.2f}: " +
              ", ".join(f"{part} {row[part]:.2f}" for part in kernel_times.PARTS if row[part] > 0))


def print_tables(report):
    bench = report.get("step_bench") or {}
    for row in bench.get("decode", []):
        print(f"decode {row['batch']:3d}: {row['step_ms_median']:.2f} ms, floor {row['floor_ms']:.2f}, "
              f"x{row['times_floor']:.2f}, enqueue {row['enqueue_ms_median']:.2f}, {row['launches_per_step']:.0f} launches")
    if "prefill" in bench:
        row = bench["prefill"]
        print(f"prefill {row['tokens']}: {row['ms_median']:.1f} ms, floor {row['floor_ms']:.1f}, x{row['times_floor']:.2f}")
    for row in (report.get("step_bench_late") or {}).get("decode", []):
        print(f"late rows {row['batch']:3d}: {row['step_ms_median']:.2f} ms, {row['experts_mean']:.1f} experts, "
              f"x{row['times_floor']:.2f} of the copy's floor, x{row['times_read_floor']:.2f} of the read's")
    forced = report.get("step_bench_forced") or {}
    for row in forced.get("experts_in_batch", []):
        print(f"forced, batch {row['batch']}, {row['unique_experts']} experts: {row['step_ms_median']:.2f} ms, x{row['times_floor']:.2f}")
    for row in forced.get("experts_in_prefill", []):
        print(f"forced, prefill {row['tokens']}, {row['unique_experts']} experts: {row['ms_median']:.1f} ms, x{row['times_floor']:.2f}")
    for row in report.get("step_mixed") or []:
        print(f"chunk of {row['chunk']} {row['chunk_ms_median']:.2f} ms, {row['rows']} rows {row['rows_ms_median']:.2f}, sum "
              f"{row['sum_ms']:.2f}, together {row['together_ms_median']:.2f} (x{row['together_over_sum']:.2f})")
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
    print_paper(report)
    if any(report.get(key) for key in ("step_bench_dense", "peers")):
        print_engines(report)
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
        "step_bench_late": read_json(folder / "step-bench-late.json"),
        "step_bench_forced": read_json(folder / "step-bench-forced.json"),
        "step_mixed": [row["mixed"] for row in map(read_json, sorted(folder.glob("step-mixed-*.json"))) if row],
        "step_bench_dense": read_json(folder / "step-bench-dense.json"),
        "paper_experts": read_json(folder / "paper-experts.json"),
        "paper_parts": parts_table(folder),
        "peers": read_lines(folder / "peers.json"),
        "trace": traced(folder, "trace", kernel_times.tables),
    }
    name = re.sub(r"[^a-z0-9]+", "-", card.split(",")[0].lower()).strip("-")
    (folder / f"gpu-{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print_tables(report)


if __name__ == "__main__":
    main()
