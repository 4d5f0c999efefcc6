"""What router, scheduler and the links between the processes add to a worker's step and to TTFT.

Starts the three services on loopback and sends requests one by one. A worker's own time for its steps and the times
that the scheduler and the client see come from the same requests, so a noisy machine shifts both; medians over
requests. TTFT groups ask for one token, so that all their steps are prefill; decode groups for 64 from a short prompt.
usage: serving_overhead.py --bin build/release/bin --model DIR --out FILE [--requests 12] [--dtype bf16] [--threads 2]
       [--router-threads 1]
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request

import machine

MODES = {
    "run ahead, replica": ["--run-ahead", "on"],
    "lockstep, replica": ["--run-ahead", "off"],
    "lockstep, service": ["--decode-routing", "service"],
}
SEED = 1
WORDS = "time and tide wait for no man who sits by the river and counts the boats as they pass "


class Cluster:
    def __init__(self, args, scheduler_flags, scratch):
        self.args, self.scratch = args, pathlib.Path(scratch)
        socket = {name: f"unix:{scratch}/{name}" for name in ("router", "worker", "scheduler")}
        self.server = socket["scheduler"]
        ports = self.scratch / "ports.json"
        common = ["--model", args.model, "--log-level", "warn"]
        free = ["--metrics-listen", "127.0.0.1:0"]
        self.processes = [
            self.start("pregate-router", *common, *free, "--listen", socket["router"], "--threads",
                       str(args.router_threads)),
            self.start("pregate-worker", *common, *free, "--listen", socket["worker"], "--threads", str(args.threads),
                       "--dtype", args.dtype),
            self.start("pregate-scheduler", *common, *free, "--listen", self.server, "--router", socket["router"],
                       "--workers", socket["worker"], "--port-file", str(ports), *scheduler_flags)]
        self.generate("warm up", 8, "--wait-s", "60")
        self.metrics_url = f"http://{json.loads(ports.read_text())['metrics']}/metrics"

    def start(self, program, *flags):
        return subprocess.Popen([f"{self.args.bin}/{program}", *flags], stderr=subprocess.DEVNULL)

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()

    def generate(self, prompt, max_tokens, *flags):
        command = [f"{self.args.bin}/pregate", "generate", "--server", self.server, "--prompt", prompt, "--max-tokens",
                   str(max_tokens), "--temperature", "0", "--seed", str(SEED), "--ignore-eos", "--json", *flags]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def sums(self):
        """{histogram: (sum in seconds, count)}."""
        text = urllib.request.urlopen(self.metrics_url).read().decode()
        found = re.findall(r"^pregate_(\w+)_(sum|count)\{[^}]*\} (\S+)$", text, re.M)
        values = {(name, part): float(value) for name, part, value in found}
        return {name: (values[name, "sum"], values[name, "count"]) for name, part in values if part == "sum"}

    def spent(self, prompt, max_tokens):
        """One request: seconds and counts that it added to each histogram, and what its client saw."""
        before = self.sums()
        seen = self.generate(prompt, max_tokens)
        time.sleep(0.05)  # a plan that ran ahead ends
        after = self.sums()
        zero = (0.0, 0.0)
        return {n: tuple(a - b for a, b in zip(after[n], before.get(n, zero))) for n in after}, seen


def first_token(cluster, words, requests):
    rows = []
    for i in range(requests):
        spent, seen = cluster.spent(f"{i} " + " ".join((WORDS * 40).split()[:words]), 1)
        ttft, step, route = (1e3 * spent[n][0] for n in ("time_to_first_token_seconds", "step_duration_seconds", "route_seconds"))
        rows.append({"prompt_tokens": seen["prompt_tokens"], "client_ttft_ms": 1e3 * seen["ttft_s"], "ttft_ms": ttft,
                     "worker_steps_ms": step, "route_ms": route, "rest_ms": ttft - step - route})
    return {key: round(statistics.median(r[key] for r in rows), 3) for key in rows[0]}


def decode(cluster, tokens, requests):
    rows = []
    for i in range(requests):
        spent, _ = cluster.spent(f"{i} one two three", tokens)
        gap_s, gaps = spent["inter_token_latency_seconds"]
        step_s, steps = spent["step_duration_seconds"]
        rows.append({"gap_ms": 1e3 * gap_s / gaps, "worker_step_ms": 1e3 * step_s / steps,
                     "steps_beyond_tokens": steps - tokens})
    medians = {key: statistics.median(r[key] for r in rows) for key in rows[0]}
    medians["rest_ms"] = statistics.median(r["gap_ms"] - r["worker_step_ms"] for r in rows)
    return {key: round(value, 3) for key, value in medians.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=12)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--router-threads", type=int, default=1)
    args = parser.parse_args()
    report = {"machine": machine.describe(), "model": pathlib.Path(args.model).name,
              "config": {"dtype": args.dtype, "threads": args.threads, "router_threads": args.router_threads,
                         "requests": args.requests, "seed": SEED}}
    for mode, flags in MODES.items():
        with tempfile.TemporaryDirectory() as scratch:
            cluster = Cluster(args, flags, scratch)
            try:
                report[mode] = {"first_token": [first_token(cluster, words, args.requests) for words in (10, 100, 400)],
                                "decode": decode(cluster, 64, args.requests)}
            finally:
                cluster.stop()
        print(mode, json.dumps(report[mode], indent=1), flush=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
