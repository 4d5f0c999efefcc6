"""What a token costs in front of the workers: a real scheduler and a real gateway on one core, a worker that computes nothing
(bench/fake_worker) and the clients (bench/stream_bench) on the other; by gRPC and by HTTP turn about. The processor time of
scheduler and gateway is counted too, since other programs on the machine change rates but hardly that; and the share of its core that
they had busy: well below 1, the rate is the clients' and not theirs.
usage: front_door.py --bin BIN[:FLAG][,BIN[:FLAG] ...] --out FILE [--streams 256] [--prompt 16] [--answer 128] [--requests 4] [--rounds 5]
                     [--grpc-client] [--profile] [--flames DIR]

With several BINs (before, after; a FLAG is for scheduler and gateway), each round measures all of them; ratios are to the first one, within a round:
[median, least, most]. By gRPC the streams share one connection, whose frames the client writes itself; with --grpc-client it is gRPC's own client.
--profile adds where the last build's
time goes, by function, at the last number of streams (needs `perf`); --flames draws that with its calls (bench/flame_graph.py), a file a way.
"""
import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import flame_graph
import machine

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SERVER_CORE, CLIENT_CORE = "0", "1"


def alone():
    """In a new session: a share of the cores of its own, whatever else runs (autogroups), if we may ask for it."""
    try:
        pathlib.Path("/proc/self/autogroup").write_text("-20")
    except OSError:
        pass


def cpu_s(process):
    """User and system time of a process, all threads; from nanoseconds of its threads where the kernel counts them."""
    total = 0
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended
    return total


class Servers:
    """Fake worker, scheduler and gateway of one build, the last two with `flags`."""

    def __init__(self, folder, binaries, flags, model, args):
        self.folder, self.binaries, self.processes = folder, binaries, []
        self.worker = self.start(CLIENT_CORE, "fake_worker", "--model", model, "--listen", "127.0.0.1:0")
        self.scheduler = self.start(SERVER_CORE, "pregate-scheduler", "--model", model, "--workers", self.worker["listen"], "--drafts", "off",
                                    "--queue-max", "8192", "--running-max", "1024", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                                    "--log-level", args.log_level, *flags)
        self.gateway = self.start(SERVER_CORE, "pregate-gateway", "--schedulers", self.scheduler["listen"], "--http-listen", "127.0.0.1:0",
                                  "--metrics-listen", "127.0.0.1:0", "--log-level", args.log_level, *flags)
        self.await_ready()

    def await_ready(self):
        while not self.is_ready():
            time.sleep(0.05)

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://{self.gateway['http']}/health", timeout=10).status == 200
        except urllib.error.HTTPError:
            return False

    def start(self, core, program, *argv):
        ports = self.folder / f"{program}.ports"
        with (self.folder / f"{program}.log").open("w") as log:
            process = subprocess.Popen(["taskset", "-c", core, self.binaries / program, *argv, "--port-file", ports], stdout=log, stderr=log,
                                       start_new_session=True, preexec_fn=alone)
        self.processes.append(process)
        end = time.monotonic() + 30
        while not ports.exists() or not ports.read_text().strip():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{program} did not start:\n{(self.folder / f'{program}.log').read_text()}")
            time.sleep(0.02)
        return {**json.loads(ports.read_text()), "process": process}

    def run(self, way, streams, args, requests, retries=3):
        argv = ["taskset", "-c", CLIENT_CORE, args.client / "stream_bench", "--server", self.scheduler["listen"], "--streams", streams,
                "--prompt", args.prompt, "--answer", args.answer, "--requests", requests, "--vocab", 256]
        if way == "grpc" and not args.grpc_client:
            argv.append("--frames")
        if way == "http":
            self.await_ready()  # it may have taken the scheduler for lost while that answered nobody else in time
            argv += ["--http", self.gateway["http"], "--plain"]
        counted = [self.scheduler["process"], self.gateway["process"]]
        before = [cpu_s(process) for process in counted]
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, start_new_session=True, preexec_fn=alone)
        if "no scheduler is ready" in done.stderr and retries > 0:  # a gateway took it for lost
            return self.run(way, streams, args, requests, retries - 1)
        if done.returncode != 0:
            lines = [line for name in ("scheduler", "gateway") for line in (self.folder / f"pregate-{name}.log").read_text().splitlines()]
            raise SystemExit("\n".join([done.stderr, *(line for line in lines if " request id=" not in line)]))
        used = [cpu_s(process) - b for process, b in zip(counted, before)]
        seen = json.loads(done.stdout)["runs"][0]
        tokens = int(streams) * requests * args.answer
        return {"tokens_per_s": seen["tokens_per_s"], "ttft_ms_p50": seen["ttft_ms_p50"], "itl_ms_p50": seen["itl_ms_p50"],
                "scheduler_us_per_token": used[0] / tokens * 1e6, "gateway_us_per_token": used[1] / tokens * 1e6,
                "server_core_busy": sum(used) * seen["tokens_per_s"] / tokens, "answers": seen["answers"]}

    def record(self, way, streams, args, processes, *flags):
        """perf's file of what the processes do in a run."""
        data = self.folder / "perf.data"
        perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", *flags, "-p", ",".join(str(p.pid) for p in processes), "-o", data],
                                stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        self.run(way, streams, args, args.requests)
        perf.send_signal(signal.SIGINT)
        perf.wait()
        return data

    def profile(self, way, streams, args, top=15):
        """{"scheduler": [[share, function], ...], "gateway": ...}: of samples in each process, the function's own time alone."""
        found = {}
        for name, server in (("scheduler", self.scheduler), ("gateway", self.gateway)):
            data = self.record(way, streams, args, [server["process"]], "-F", "1999")
            report = subprocess.run(["perf", "report", "-q", "--stdio", "--no-children", "-i", data, "--sort", "dso,symbol"],
                                    capture_output=True, text=True).stdout
            rows = [line.split(None, 3) for line in report.splitlines() if "%" in line]
            found[name] = [[float(share.rstrip("%")), f"{symbol[:120]} ({dso})"] for share, dso, _, symbol in rows[:top]]
        return found

    def draw(self, way, streams, args):
        """A flame graph of scheduler and gateway together, into args.flames."""
        servers = [self.scheduler["process"], *([self.gateway["process"]] if way == "http" else [])]
        data = self.record(way, streams, args, servers, "-F", "499", "--call-graph", "dwarf,16384")
        name = {"grpc": "gRPC", "http": "SSE"}[way]
        title = f"{name}, {streams} streams: {' and '.join(p.args[3].name for p in servers)}"
        (args.flames / f"front-door-{name.lower()}.svg").write_text(flame_graph.render(flame_graph.read_stacks(data), title, least=0.25))

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def median(runs):
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0] if key != "answers"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--streams", default="256")
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--answer", type=int, default=128)
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--log-level", default="warn")
    parser.add_argument("--grpc-client", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--flames", type=pathlib.Path)
    args = parser.parse_args()
    binaries = [pathlib.Path(b.split(":")[0]).resolve() for b in args.bin.split(",")]
    flags = [b.split(":")[1:] for b in args.bin.split(",")]
    args.client = binaries[-1]  # of one build, whatever is before it
    with tempfile.TemporaryDirectory() as temp:
        temp = pathlib.Path(temp)
        subprocess.run([binaries[0] / "pregate", "synth", "--shape", "tiny", "--seed", "1", "--out", temp / "tiny"], check=True,
                       capture_output=True)
        builds = []
        for i, b in enumerate(binaries):
            (temp / str(i)).mkdir()
            builds.append(Servers(temp / str(i), b, flags[i], temp / "tiny", args))
        try:
            runs = {}  # (streams, build, way) -> rounds
            for _ in range(args.rounds):
                for streams in args.streams.split(","):
                    for i, build in enumerate(builds):
                        for way in ("grpc", "http"):
                            # One stream shows what the gateway adds to the first token, and needs more requests for a median.
                            requests = args.requests * (16 if streams == "1" else 1)
                            runs.setdefault((streams, i, way), []).append(build.run(way, streams, args, requests))
            profiles = {way: builds[-1].profile(way, streams, args) for way in ("grpc", "http")} if args.profile else {}
            for way in ("grpc", "http") if args.flames else ():
                builds[-1].draw(way, streams, args)
        finally:
            for build in builds:
                build.stop()
    answers = {}  # over HTTP the number of tokens alone: without routes there are no ids
    for (streams, _, way), rounds in runs.items():
        answers.setdefault((streams, way), set()).update(run["answers"] for run in rounds)
    table = []
    for (streams, i, way), rounds in runs.items():
        row = {"streams": int(streams), "build": i, "way": way, **median(rounds)}
        if i > 0:
            pairs = list(zip(rounds, runs[(streams, 0, way)]))
            row["of_the_first_build"] = {key: [round(f([run[key] / first[key] for run, first in pairs]), 3) for f in (statistics.median, min, max)]
                                         for key in ("tokens_per_s", "ttft_ms_p50", "scheduler_us_per_token", "gateway_us_per_token")}
        if way == "http":
            row["added_ttft_ms_p50"] = round(row["ttft_ms_p50"] - median(runs[(streams, i, "grpc")])["ttft_ms_p50"], 3)
        table.append(row)
        print(json.dumps(row), flush=True)
    result = {"command": "bench/front_door.py", "machine": machine.describe(), "prompt_tokens": args.prompt, "answer_tokens": args.answer,
              "requests": args.requests, "rounds": args.rounds, "load_average": os.getloadavg(),
              "same_answers": all(len(same) == 1 for same in answers.values()), "runs": table, **({"profile": profiles} if profiles else {})}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
