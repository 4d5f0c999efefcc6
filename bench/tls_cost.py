"""What mutual TLS costs: a new connection, a unary call, a token over all links.

Starts a plaintext cluster and one over mutual TLS for each model, both on TCP of 127.0.0.1 (router, worker and scheduler
as processes), and lets tls_cost ask them in turn; medians of rounds, ratio of each round's two medians. Both clusters
stand all the time, and only the one that is asked computes.
usage: tls_cost.py --bin build/release/bin --model DIR [--model DIR ...] --out FILE [--rounds 5] [--threads 1]
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import machine

SEED = 1


class Cluster:
    def __init__(self, args, model, scratch, certs):
        self.bin, self.scratch, self.certs, self.processes = args.bin, scratch, certs, []
        scratch.mkdir(parents=True)
        common = ["--model", model, "--log-level", "warn", "--metrics-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]
        router = self.start("router", *common, "--threads", "1")
        worker = self.start("worker", *common, "--threads", str(args.threads), "--dtype", args.dtype)
        self.address = self.start("scheduler", *common, "--router", router, "--workers", worker)
        role = ["--tls-dir", f"{certs}/client"] if certs else []
        subprocess.run([f"{args.bin}/pregate", "generate", "--server", self.address, "--prompt", "warm up", "--wait-s", "120",
                        "--max-tokens", "8", *role], check=True, capture_output=True)

    def start(self, name, *flags):
        ports = self.scratch / f"{name}.json"
        tls = ["--tls-dir", f"{self.certs}/{name}"] if self.certs else []
        process = subprocess.Popen([f"{self.bin}/pregate-{name}", *flags, *tls, "--port-file", str(ports)],
                                   stderr=subprocess.DEVNULL)
        self.processes.append(process)
        while not ports.exists():
            if process.poll() is not None:
                raise SystemExit(f"pregate-{name} ended with {process.returncode}")
        return json.loads(ports.read_text())["listen"]

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()


def compare(args, model, scratch, certs):
    clusters = []
    try:
        for name, role_dirs in (("plaintext", None), ("tls", certs)):
            clusters.append(Cluster(args, model, scratch / name, role_dirs))
        command = [f"{args.bin}/tls_cost", "--plaintext", clusters[0].address, "--encrypted", clusters[1].address,
                   "--tls-dir", f"{certs}/client", "--rounds", str(args.rounds), "--tokens", str(args.tokens)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        for cluster in clusters:
            cluster.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True, action="append")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    report = {"machine": machine.describe(),
              "config": {"dtype": args.dtype, "threads": args.threads, "rounds": args.rounds, "tokens": args.tokens,
                         "seed": SEED}}
    for model in args.model:
        with tempfile.TemporaryDirectory() as scratch:
            certs = f"{scratch}/certs"
            subprocess.run([f"{args.bin}/pregate", "certs", "init", "--dir", certs], check=True, capture_output=True)
            report[pathlib.Path(model).name] = compare(args, model, pathlib.Path(scratch) / "run", certs)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
