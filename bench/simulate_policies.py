"""Compares policies under virtual time by `pregate simulate --compare`; prints the tables of docs/OFFLOAD.md.

    python3 bench/simulate_policies.py --pregate build/release/bin/pregate \
        --trace ../shared/data/traces/azure_2023_conv.csv --out bench/results/offload-virtual-time.json [--routes FILE]

Each case runs with every seed; a table has the mean over seeds. With --routes the case of recorded routes runs too.
"""
import argparse
import json
import statistics
import subprocess

GPU = "bench/costs/paper-shape-h200-derived.json"
CPU = "bench/costs/smollm2-moe5-epyc-zen1-2core.json"
CASES = [
    *({"costs": GPU, "compare-slots": "3,4,5", "rate-scale": rate, "step-tokens": "1024", "locality": locality}
      for locality in ("0.71", "0.86") for rate in ("0.06", "0.24", "0.48")),
    {"costs": GPU, "compare-slots": "3,4,5", "rate-scale": "1", "step-tokens": "256", "locality": "0.71"},
    {"costs": GPU, "compare-slots": "7", "rate-scale": "1", "step-tokens": "1024", "locality": "0.71"},
    {"costs": CPU, "compare-slots": "2,3,5", "rate-scale": "0.01", "step-tokens": "256", "locality": "0.71"},
]
RECORDED = [{"costs": GPU, "compare-slots": "2,3,4", "rate-scale": rate, "step-tokens": "1024"} for rate in ("0.06", "0.48")]


def simulate(args, case, seed):
    flags = [f for name, value in case.items() for f in (f"--{name}", value)]
    out = subprocess.run([args.pregate, "simulate", "--compare", "--json", "--trace", args.trace, "--requests",
                          str(args.requests), "--seed", str(seed), *flags], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)["runs"]


def mean(runs, *path):
    values = []
    for run in runs:
        for name in path:
            run = run[name]
        values.append(run)
    return statistics.mean(values)


def over_optimum(run):
    window = run["window"]
    optimum = 1 - window["optimal_reuse_ratio"]
    return (1 - window["reuse_ratio"]) / optimum if optimum else 1


def row(slots, policy, runs):
    """Means over seeds."""
    n, t, i = "normalized_latency_s", "ttft_s", "itl_s"
    return {"slots": slots, "policy": policy, "latency_mean_s": mean(runs, n, "mean"), "latency_p95_s": mean(runs, n, "p95"),
            "ttft_mean_s": mean(runs, t, "mean"), "ttft_p95_s": mean(runs, t, "p95"),
            "itl_p50_s": mean(runs, i, "p50"), "itl_p99_s": mean(runs, i, "p99"),
            "tokens_per_s": mean(runs, "generated_tokens_per_s"), "tokens_per_step": mean(runs, "tokens_per_step"),
            "experts_per_step": mean(runs, "unique_experts_per_step"), "reuse": mean(runs, "window", "reuse_ratio"),
            "optimal_reuse": mean(runs, "window", "optimal_reuse_ratio"),
            "loads_over_optimum": statistics.mean(over_optimum(r) for r in runs), "stall_s": mean(runs, "stall_s")}


def print_table(case, runs):
    print("\n" + ", ".join(f"{name} {value}" for name, value in case.items() if name != "compare-slots") + "\n")
    print("| slots | policy | normalized latency, s: mean / p95 | TTFT, s: mean / p95 | ITL, ms: p50 / p99 | tokens/s "
          "| tokens, experts a step | reuse (optimum) | loads / optimum's | stall, s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for slots, policy in dict.fromkeys((r["config"]["slots"], r["config"]["policy"]) for r in runs):
        of = [r for r in runs if (r["config"]["slots"], r["config"]["policy"]) == (slots, policy)]
        r = row(slots, policy, of)
        rows.append({name: round(value, 4) if isinstance(value, float) else value for name, value in r.items()})
        print(f"| {slots} | {policy} | {r['latency_mean_s']:.4f} / {r['latency_p95_s']:.4f} "
              f"| {r['ttft_mean_s']:.2f} / {r['ttft_p95_s']:.2f} | {r['itl_p50_s'] * 1e3:.1f} / {r['itl_p99_s'] * 1e3:.0f} "
              f"| {r['tokens_per_s']:.1f} | {r['tokens_per_step']:.1f}, {r['experts_per_step']:.2f} "
              f"| {r['reuse']:.3f} ({r['optimal_reuse']:.3f}) | {r['loads_over_optimum']:.2f} | {r['stall_s']:.0f} |", flush=True)
    return rows


def print_cache_table(args, seed):
    """The paper's: shares of references that took no load, on the order that our planner executed at that capacity."""
    print("\n| slots of 7 | random | LRU | ours | optimum |")
    print("|---|---|---|---|---|")
    case = {"costs": GPU, "rate-scale": "0.24", "step-tokens": "1024", "compare-slots": "2,3,4,5"}
    runs = [r for r in simulate(args, case, seed) if r["config"]["policy"] == "horizon"]
    for run in runs:
        window = run["window"]
        shares = [window[f"{name}reuse_ratio"] for name in ("random_", "lru_", "", "optimal_")]
        print(f"| {run['config']['slots']} | " + " | ".join(f"{100 * s:.1f}" for s in shares) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pregate", "trace", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--routes", help="of `pregate routes record`")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    cases = CASES + [{**case, "routes": args.routes} for case in RECORDED if args.routes]
    tables = []
    for case in cases:
        runs = [run for seed in range(1, args.seeds + 1) for run in simulate(args, case, seed)]
        named = {name: value for name, value in case.items() if name not in ("routes", "compare-slots")}
        tables.append({**named, "recorded_routes": "routes" in case, "rows": print_table(case, runs)})
        with open(args.out, "w") as f:
            json.dump({"requests": args.requests, "seeds": args.seeds, "tables": tables}, f, indent=1)
            f.write("\n")
    print_cache_table(args, 1)


if __name__ == "__main__":
    main()
