"""Compares batching and eviction policies under virtual time; prints the table of docs/BENCHMARKS.md.

    python3 bench/simulate_policies.py --pregate build/release/bin/pregate \
        --trace ../shared/data/traces/azure_2023_conv.csv --out bench/results/policies-virtual-time.json
"""
import argparse
import json
import subprocess
import time

CASES = [
    {"costs": "bench/costs/paper-shape-h200-derived.json", "slots": [2, 3, 4, 5, 7], "rate-scale": "0.06",
     "step-tokens": "1024"},
    {"costs": "bench/costs/smollm2-moe5-epyc-zen1-2core.json", "slots": [2, 3, 5], "rate-scale": "0.01",
     "step-tokens": "256"},
]


def main():
    parser = argparse.ArgumentParser()
    for name in ("pregate", "trace", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    runs = []
    for case in CASES:
        print(f"\n{case['costs']}, rate x {case['rate-scale']}, {case['step-tokens']} tokens a step\n")
        print("| slots | batching | eviction | normalized latency, s: mean / p95 / p99 | TTFT, s: mean / p95 "
              "| ITL, ms: p50 / p99 | experts a step | hits | reuse (optimum) | stall, s |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for slots in case["slots"]:
            for policy in ("fcfs", "by_expert"):
                for cache in ("lru", "next_use"):
                    start = time.time()
                    out = subprocess.run(
                        [args.pregate, "simulate", "--json", "--trace", args.trace, "--costs", case["costs"],
                         "--requests", str(args.requests), "--seed", str(args.seed), "--slots", str(slots),
                         "--rate-scale", case["rate-scale"], "--step-tokens", case["step-tokens"],
                         "--policy", policy, "--cache", cache], check=True, capture_output=True, text=True)
                    r = json.loads(out.stdout)
                    r["wall_s"] = round(time.time() - start, 2)
                    runs.append(r)
                    n, t, i, w = r["normalized_latency_s"], r["ttft_s"], r["itl_s"], r["window"]
                    print(f"| {slots} | {policy} | {cache} | {n['mean']:.4f} / {n['p95']:.4f} / {n['p99']:.4f} "
                          f"| {t['mean']:.2f} / {t['p95']:.2f} | {i['p50'] * 1e3:.1f} / {i['p99'] * 1e3:.0f} "
                          f"| {r['unique_experts_per_step']:.2f} | {r['hit_ratio']:.3f} "
                          f"| {w['reuse_ratio']:.3f} ({w['optimal_reuse_ratio']:.3f}) | {r['stall_s']:.0f} |", flush=True)
    with open(args.out, "w") as f:
        json.dump({"seed": args.seed, "requests": args.requests, "runs": runs}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
