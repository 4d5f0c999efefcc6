"""Makes a cost file for `pregate simulate` out of results that were measured before, on a quiet machine.

    python3 bench/cost_from_results.py --serving bench/results/serving-overhead-epyc-zen1-2core.json \
        --peers bench/results/cpu-epyc-zen1-2core.json --unit-bytes 1741824 --unit-load-ms 0.252 \
        --layers 30 --experts 5 --out bench/costs/smollm2-moe5-epyc-zen1-2core.json

Steps measured there: one decode step, prompts of 11, 101 and 401 tokens (the last in two steps), 512 tokens in one step. Of
the model step_s = base + token * tokens + expert_read * experts + pair * (token, key) pairs + sample * emits, expert_read is an
expert's bytes by the measured read bandwidth; base, token and pair are the least squares of the relative error; emits are
in base and token. bench/step_cost.cc measures all of it at once, and needs a machine with nothing else to do.
"""
import argparse
import json


def solve(rows, values):
    """Least squares of rows * x / value = 1."""
    n = len(rows[0])
    scaled = [[a / v for a in row] for row, v in zip(rows, values)]
    m = [[sum(r[i] * r[j] for r in scaled) for j in range(n)] + [sum(r[i] for r in scaled)] for i in range(n)]
    for i in range(n):
        for k in range(n):
            if k != i:
                f = m[k][i] / m[i][i]
                m[k] = [a - f * b for a, b in zip(m[k], m[i])]
    return [m[i][n] / m[i][i] for i in range(n)]


def main():
    parser = argparse.ArgumentParser()
    for name in ("serving", "peers", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("unit-bytes", "layers", "experts"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--unit-load-ms", type=float, required=True, help="bench/step_cost.cc's copy of one unit")
    args = parser.parse_args()
    serving = json.load(open(args.serving))
    peers = json.load(open(args.peers))
    lockstep, ahead = serving["lockstep, replica"], serving["run ahead, replica"]

    read_s = args.unit_bytes * args.layers / (peers["read_gb_per_s"] * 1e9)
    points = [(1, 1, 1, 0, ahead["decode"]["worker_step_ms"] / 1e3)]  # steps, tokens, experts, pairs, seconds
    for row in ahead["first_token"]:
        n = int(row["prompt_tokens"])
        points.append((-(-n // 256), n, min(n, args.experts) * -(-n // 256), n * n / 2, row["worker_steps_ms"] / 1e3))
    prefill = 512 / peers["rows"]["pregate moe bf16"]["prefill_tokens_per_s"]
    points.append((1, 512, args.experts, 512 * 512 / 2, prefill))

    rest = [seconds - read_s * experts for _, _, experts, _, seconds in points]
    base, token, pair = solve([[s, n, p] for s, n, _, p, _ in points], rest)
    routes = [(r["prompt_tokens"], r["route_ms"] / 1e3) for r in lockstep["first_token"]]
    route_token = (routes[-1][1] - routes[0][1]) / (routes[-1][0] - routes[0][0])
    measured = []
    for steps, n, experts, pairs, seconds in points:
        model = base * steps + token * n + read_s * experts + pair * pairs
        measured.append({"steps": steps, "tokens": n, "experts": experts, "ms": round(seconds * 1e3, 3),
                         "fit_ms": round(model * 1e3, 3)})
    cost = {
        "machine": "AMD EPYC (Zen 1), 2 cores", "source": "measured",
        "method": f"bench/cost_from_results.py over {args.serving} and {args.peers}",
        "model": {"path": "smollm2-135m-moe5", "layers": args.layers, "experts": args.experts, "dtype": "bf16"},
        "step": {"base_s": base, "token_s": token, "expert_read_s": read_s, "key_s": 0, "pair_s": max(pair, 0),
                 "sample_s": 0},
        "unit": {"bytes": args.unit_bytes, "load_s": args.unit_load_ms / 1e3},
        "router": {"request_s": max(routes[0][1] - route_token * routes[0][0], 0), "token_s": route_token},
        "link_s": lockstep["decode"]["rest_ms"] / 2e3,
        "points": measured,
    }
    with open(args.out, "w") as out:
        json.dump(cost, out, indent=1)
        out.write("\n")
    print(json.dumps(cost, indent=1))


if __name__ == "__main__":
    main()
