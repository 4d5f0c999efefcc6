"""Merges what run.sh's stages left in a folder into one JSON, and prints a short table.

usage: report.py FOLDER; writes FOLDER/gpu-CARD.json.
"""
import collections
import csv
import json
import pathlib
import re
import sys

METRICS = {
    "gpu__time_duration.sum": "ns",
    "dram__bytes_read.sum": "read",
    "dram__bytes_write.sum": "written",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "dram_pct",
}
UNITS = {"nsecond": 1, "ns": 1, "usecond": 1e3, "us": 1e3, "msecond": 1e6, "ms": 1e6, "byte": 1, "Kbyte": 1e3,
         "Mbyte": 1e6, "Gbyte": 1e9, "%": 1, "": 1}


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def kernel_name(signature):
    """"void pregate::cuda::<unnamed>::RmsNormKernel<...>(...)" -> "RmsNormKernel"; library kernels keep their start."""
    match = re.search(r"(\w+Kernel)\b", signature)
    return match.group(1) if match else re.sub(r"[<(].*", "", signature)[:40]


def ncu_launches(text):
    """[(kernel, {metric: value})] in launch order, from ncu's CSV."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    launches = collections.OrderedDict()
    for row in csv.DictReader(lines):
        metric = METRICS.get(row["Metric Name"])
        if metric is None:
            continue
        values = launches.setdefault(int(row["ID"]), (kernel_name(row["Kernel Name"]), {}))[1]
        values[metric] = float(row["Metric Value"].replace(",", "")) * UNITS.get(row["Metric Unit"], 1)
    return list(launches.values())


def by_kernel(launches):
    total = sum(v.get("ns", 0) for _, v in launches) or 1
    table = {}
    for name, values in launches:
        row = table.setdefault(name, {"launches": 0, "us": 0, "gb": 0})
        row["launches"] += 1
        row["us"] += values.get("ns", 0) / 1e3
        row["gb"] += (values.get("read", 0) + values.get("written", 0)) / 1e9
    for row in table.values():
        row["share_of_time"] = row["us"] * 1e3 / total
        row["dram_tb_per_s"] = row["gb"] / row["us"] * 1e3 if row["us"] else 0
    return {"us": total / 1e3, "kernels": dict(sorted(table.items(), key=lambda kv: -kv[1]["us"]))}


def ncu_tables(folder):
    try:
        text = (folder / "ncu.json").read_text()
    except OSError:
        return None
    counts = re.search(r'\{"decode_launches": (\d+), "prefill_launches": (\d+)\}', text)
    launches = ncu_launches(text)
    if not counts or not launches:
        return None
    decode = int(counts.group(1))
    return {"decode": by_kernel(launches[:decode]), "prefill": by_kernel(launches[decode:])}


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
    for step, table in (report.get("ncu") or {}).items():
        print(f"{step}: {table['us']:.0f} us in kernels")
        for name, row in list(table["kernels"].items())[:12]:
            print(f"  {name:40s} {row['launches']:4d} {row['us']:9.0f} us {row['share_of_time']:6.1%} {row['dram_tb_per_s']:.2f} TB/s")


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
        "ncu": ncu_tables(folder),
    }
    name = re.sub(r"[^a-z0-9]+", "-", card.split(",")[0].lower()).strip("-")
    (folder / f"gpu-{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print_tables(report)


if __name__ == "__main__":
    main()
