"""What the HTTP front door costs: time to the first token and tokens a second by gRPC and by HTTP, turn about, from one
server (`pregate serve`, with the gateway inside), which has one core while the client has another; and its memory under
many streams and under clients that read nothing.
usage: gateway.py --bin build/release/bin --out FILE [--streams 1,64,256] [--answer 128] [--rounds 5] [--many 2000] [--deaf 500]
"""
import argparse
import json
import pathlib
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

import machine

MODEL = ["--shape", "tiny", "--experts", "3", "--shared", "0.25", "--own", "0.25", "--seed", "1"]


def alone():
    """In a new session: a share of the cores of its own, whatever else runs (autogroups), if we may ask for it."""
    try:
        pathlib.Path("/proc/self/autogroup").write_text("-20")
    except OSError:
        pass


def bench(args, ports, http, streams, answer, requests):
    argv = ["taskset", "-c", "1", args.bin / "stream_bench", "--server", ports["listen"], "--streams", streams, "--prompt", 16,
            "--answer", answer, "--requests", requests, "--vocab", 256]
    done = subprocess.run(list(map(str, argv + (["--http", ports["http"]] if http else []))), check=True, capture_output=True, text=True,
                          start_new_session=True, preexec_fn=alone)
    return json.loads(done.stdout)["runs"][0]


def memory_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def metric(ports, name):
    text = urllib.request.urlopen(f"http://{ports['metrics']}/metrics").read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))


def deaf(ports, pid, count):
    """So many clients ask for 1,900 tokens with their routes, half a megabyte each, and read nothing."""
    host, port = ports["http"].split(":")
    body = json.dumps({"prompt": "x", "max_tokens": 1900, "stream": True, "ignore_eos": True,
                       "pregate": {"return_routes": True, "no_drafts": True}}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    before, most, began = memory_mb(pid), 0, time.monotonic()
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.sendall(head + body)
        clients.append(client)
    while time.monotonic() < began + 3 or metric(ports, "pregate_gateway_open_streams") > 0:
        most = max(most, memory_mb(pid))
        time.sleep(0.2)
    return {"clients": count, "seconds_until_all_are_cut": round(time.monotonic() - began, 1), "mb_more_at_most": round(most - before, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--streams", default="1,64,256")
    parser.add_argument("--answer", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--deaf", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run([args.bin / "pregate", "synth", *MODEL, "--out", folder / "tiny"], check=True, capture_output=True)
        server = subprocess.Popen(
            ["taskset", "-c", "0", args.bin / "pregate", "serve", "--model", folder / "tiny", "--threads", "1", "--listen", "127.0.0.1:0",
             "--metrics-listen", "127.0.0.1:0", "--queue-max", "8192", "--seq-slots", "2048", "--running-max", "2048",
             "--port-file", folder / "ports", "--log-level", "warn"], stderr=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=alone)
        try:
            while not (folder / "ports").exists():
                time.sleep(0.05)
            ports = json.loads((folder / "ports").read_text())
            runs = []
            for streams in args.streams.split(","):
                by = {"grpc": [], "http": []}
                for _ in range(args.rounds):
                    for way in by:
                        by[way].append(bench(args, ports, way == "http", streams, args.answer, 8 if streams == "1" else 2))
                runs.append({"streams": int(streams), **{
                    way: {key: round(statistics.median(run[key] for run in of), 3) for key in ("ttft_ms_p50", "itl_ms_p50", "tokens_per_s")}
                    for way, of in by.items()}})
                runs[-1]["same_answers"] = len({run["answers"] for of in by.values() for run in of}) == 1
                print(runs[-1], flush=True)
            before = memory_mb(server.pid)
            many = bench(args, ports, True, args.many, args.answer, 1)
            result = {"command": "bench/gateway.py", "machine": machine.describe(), "answer_tokens": args.answer,
                      "rounds": args.rounds, "model": " ".join(MODEL), "runs": runs,
                      "many": {"streams": args.many, "tokens_per_s": round(many["tokens_per_s"]), "ttft_ms_p50": round(many["ttft_ms_p50"], 1),
                               "server_mb_before": round(before, 1), "server_mb_after": round(memory_mb(server.pid), 1)},
                      "deaf": deaf(ports, server.pid, args.deaf)}
        finally:
            server.terminate()
            server.wait()
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["many"]), json.dumps(result["deaf"]))


if __name__ == "__main__":
    main()
