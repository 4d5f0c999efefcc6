"""What drafts are worth: tokens a second with and without them, request by request on the same server, and equal ids.

Three kinds of requests: code editing (half of a file, and its first lines again as far as an editor has typed them), summaries (a chat
that asks for a summary of a page, with the page's own words) and plain text drawn at temperature 1, where nothing repeats. Each runs
once with and once without drafts (`no_drafts`), alternating; with several streams, that many at a time.
usage: drafts.py --bin build/release/bin --model DIR --out FILE [--requests 8] [--tokens 96] [--streams 1,4] [--dtype bf16]
       [--threads 2] [--device cpu] [--expert-slots 0]
"""
import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import machine

ROOT = pathlib.Path(__file__).resolve().parents[1]
SEED = 1


def code_editing(requests):
    files = sorted(ROOT.glob("scheduler_service/core/*.cc"))
    texts = [path.read_text() for path in files if 2500 < path.stat().st_size]
    for text in texts[:requests]:
        lines = text[:2000].rsplit("\n", 1)[0].split("\n")
        yield ["--prompt", "\n".join(lines + ["", "// The same file, with the new name:", ""] + lines[:6]) + "\n"]


def summaries(requests):
    pages = [path for path in sorted(ROOT.glob("docs/*.md")) if path.stat().st_size > 3000]
    for page in pages[:requests]:
        text = page.read_text()
        begin = text.find("\n\n", 400)
        yield ["--chat", "--prompt", f"Repeat the important sentences of this page word for word.\n\n{text[begin:begin + 1200]}"]


def plain_text(requests):
    for i in range(requests):
        yield ["--prompt", f"Once upon a time, in the year {1900 + 7 * i}, there", "--temperature", "1"]


KINDS = {"code editing": code_editing, "summaries": summaries, "plain text, temperature 1": plain_text}


class Server:
    def __init__(self, args, scratch):
        self.args, self.address = args, f"unix:{scratch}/scheduler"
        self.process = subprocess.Popen(
            [f"{args.bin}/pregate", "serve", "--model", args.model, "--listen", self.address, "--metrics-listen", "127.0.0.1:0",
             "--dtype", args.dtype, "--threads", str(args.threads), "--device", args.device, "--expert-slots",
             str(args.expert_slots), "--log-level", "warn"],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.generate(["--prompt", "warm up", "--wait-s", "120"], 8, "off")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def generate(self, flags, tokens, drafts):
        command = [f"{self.args.bin}/pregate", "generate", "--server", self.address, "--max-tokens", str(tokens), "--seed",
                   str(SEED), "--ignore-eos", "--json", "--drafts", drafts, *flags]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def together(self, requests, tokens, drafts):
        """Answers, and tokens a second of all: tokens behind the first over the time of the slowest."""
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            begin = time.monotonic()
            answers = list(pool.map(lambda flags: self.generate(flags, tokens, drafts), requests))
            seconds = time.monotonic() - begin
        if len(requests) == 1:
            return answers, answers[0]["tokens_per_s"]
        return answers, sum(len(a["ids"]) for a in answers) / seconds


def measure(server, kind, streams, args):
    requests = list(KINDS[kind](args.requests))
    rounds = [requests[i:i + streams] for i in range(0, len(requests) - streams + 1, streams)]
    ratios, speeds, drafts, accepted, equal = [], {"off": [], "ngram": []}, 0, 0, True
    for i, group in enumerate(rounds):
        ids = {}
        for mode in (("off", "ngram"), ("ngram", "off"))[i % 2]:
            answers, speed = server.together(group, args.tokens, mode)
            ids[mode] = [a["ids"] for a in answers]
            speeds[mode].append(speed)
            drafts += sum(a["draft_tokens"] for a in answers)
            accepted += sum(a["accepted_tokens"] for a in answers)
        equal &= ids["off"] == ids["ngram"]
        ratios.append(speeds["ngram"][-1] / speeds["off"][-1])
    return {"kind": kind, "streams": streams, "rounds": len(rounds), "tokens_per_s_off": statistics.median(speeds["off"]),
            "tokens_per_s_ngram": statistics.median(speeds["ngram"]), "ratio": statistics.median(ratios),
            "ratio_min": min(ratios), "ratio_max": max(ratios), "draft_tokens": drafts, "accepted_tokens": accepted,
            "generated_tokens": len(rounds) * streams * args.tokens, "ids_equal": equal}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--streams", default="1,4")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--expert-slots", type=int, default=0)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(args, scratch)
        try:
            for streams in map(int, args.streams.split(",")):
                for kind in KINDS:
                    rows.append(measure(server, kind, streams, args))
                    print("{kind:26} {streams} streams: {tokens_per_s_off:7.1f} -> {tokens_per_s_ngram:7.1f} tokens/s, {ratio:.2f} x "
                          "({ratio_min:.2f} to {ratio_max:.2f}), {accepted_tokens} of {draft_tokens} drafts right in {generated_tokens} "
                          "tokens, ids {0}".format("equal" if rows[-1]["ids_equal"] else "DIFFER", **rows[-1]), flush=True)
        finally:
            server.stop()
    pathlib.Path(args.out).write_text(json.dumps(
        {"machine": machine.describe(), "model": pathlib.Path(args.model).name, "dtype": args.dtype, "threads": args.threads,
         "device": args.device, "expert_slots": args.expert_slots, "seed": SEED, "tokens": args.tokens,
         "rows": rows}, indent=1) + "\n")
    raise SystemExit(0 if all(row["ids_equal"] for row in rows) else 1)


if __name__ == "__main__":
    main()
