#!/usr/bin/env python3
"""What the prefix cache is worth: a prompt asked twice, and chats of several turns, with the cache and without, and equal ids.

usage: prefix_cache.py --bin build/debug/bin --model DIR --out FILE [--rounds 7] [--prompt 361] [--sessions 8] [--turns 5]
       [--system 64] [--user 40] [--answer 32] [--dtype bf16] [--threads 2] [--device cpu] [--vocab 49152]
Two `pregate serve` on one machine, one with --prefix-cache off, asked in turn and never at once. Prompts are random token ids of
seed 1, answers greedy. A round asks for a fresh prompt twice. In a chat each turn sends all before it (a system prompt that all
sessions share, users' words, the answers) and new words; all sessions send a turn at once, and the next one when all have theirs.
Times are the client's: from the call to the first token. Needs grpcio and protobuf (scripts/tools.sh grpc) and protoc.
"""
import argparse
import concurrent.futures
import json
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
import grpc

import machine

ROOT = pathlib.Path(__file__).resolve().parents[1]
SEED = 1


class Server:
    def __init__(self, args, types, scratch, cache):
        self.types, address = types, f"unix:{scratch}/{cache}"
        self.process = subprocess.Popen(
            [f"{args.bin}/pregate", "serve", "--model", args.model, "--listen", address, "--metrics-listen", "127.0.0.1:0",
             "--dtype", args.dtype, "--threads", str(args.threads), "--device", args.device, "--log-level", "warn",
             "--prefix-cache", cache], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        request, response = types
        self.call = grpc.insecure_channel(address).unary_stream(
            "/pregate.v1.Inference/Generate", request_serializer=request.SerializeToString,
            response_deserializer=response.FromString)
        self.ask([3], 2)

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def ask(self, prompt, tokens):
        """{"ids", "ttft_ms", "route_ms", "cached"}"""
        request = self.types[0](max_tokens=tokens, ignore_eos=True, no_drafts=True)
        request.tokens.ids.extend(prompt)
        begin, first, ids, done = time.monotonic(), None, [], None
        for response in self.call(request, timeout=600, wait_for_ready=True):
            if response.WhichOneof("event") == "tokens":
                first = first or time.monotonic()
                ids += response.tokens.ids
            elif response.WhichOneof("event") == "done":
                done = response.done
        return {"ids": ids, "ttft_ms": 1e3 * (first - begin), "route_ms": 1e3 * done.timings.route_seconds,
                "cached": done.usage.cached_tokens}


def message_types(scratch):
    desc = f"{scratch}/inference.desc"
    subprocess.run(["protoc", "-I", ROOT / "proto", "--include_imports", f"--descriptor_set_out={desc}",
                    ROOT / "proto/pregate/v1/inference.proto"], check=True)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(desc).read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pregate.v1.Generate{name}"))
            for name in ("Request", "Response")]


def ask_twice(servers, args, source):
    times = {name: ([], []) for name in servers}
    equal, cached, route_ms = True, 0, []
    for turn in range(args.rounds):
        prompt = [source.randrange(3, args.vocab) for _ in range(args.prompt)]
        answers = []
        for name in list(servers)[::1 if turn % 2 else -1]:
            for again in range(2):
                answers.append(servers[name].ask(prompt, 4))
                times[name][again].append(answers[-1]["ttft_ms"])
            if name == "on":
                route_ms.append(answers[-1]["route_ms"])
            cached = max(cached, answers[-1]["cached"])
        equal &= all(answer["ids"] == answers[0]["ids"] for answer in answers)
    median = {f"{which}_ttft_ms_{name}": statistics.median(values) for name in times
              for which, values in zip(("first", "second"), times[name])}
    ratios = [second / first for first, second in zip(*times["on"])]
    return {"prompt_tokens": args.prompt, "rounds": args.rounds, **median, "second_over_first": statistics.median(ratios),
            "second_over_first_max": max(ratios), "second_route_ms_on": statistics.median(route_ms), "cached_tokens": cached, "ids_equal": equal}


def chat(server, args):
    """By turn: TTFTs, tokens sent and found; and every answer."""
    source = random.Random(SEED)
    words = lambda count: [source.randrange(3, args.vocab) for _ in range(count)]
    system = words(args.system)
    said, turns, ids = [list(system) for _ in range(args.sessions)], [], []
    with concurrent.futures.ThreadPoolExecutor(args.sessions) as pool:
        for _ in range(args.turns):
            for session in said:
                session += words(args.user)
            answers = list(pool.map(lambda prompt: server.ask(prompt, args.answer), said))
            turns.append({"ttft_ms": [a["ttft_ms"] for a in answers], "sent": sum(map(len, said)),
                          "found": sum(a["cached"] for a in answers)})
            for session, answer in zip(said, answers):
                session += answer["ids"]
            ids.append([a["ids"] for a in answers])
    return turns, ids


def chats(servers, args):
    result, ids = {"sessions": args.sessions, "turns": args.turns, "system_tokens": args.system, "user_tokens": args.user,
                   "answer_tokens": args.answer}, {}
    for name, server in servers.items():
        turns, ids[name] = chat(server, args)
        result[f"ttft_ms_median_by_turn_{name}"] = [round(statistics.median(t["ttft_ms"]), 1) for t in turns]
        result[f"ttft_ms_max_by_turn_{name}"] = [round(max(t["ttft_ms"]), 1) for t in turns]
        result[f"hit_ratio_{name}"] = sum(t["found"] for t in turns) / sum(t["sent"] for t in turns)
    result["ids_equal"] = ids["on"] == ids["off"]
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bin", "model", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name, value in (("rounds", 7), ("prompt", 361), ("sessions", 8), ("turns", 5), ("system", 64), ("user", 40),
                        ("answer", 32), ("threads", 2), ("vocab", 49152)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        types = message_types(scratch)
        servers = {}
        try:
            for cache in ("off", "on"):
                servers[cache] = Server(args, types, scratch, cache)
            twice = ask_twice(servers, args, random.Random(SEED))
            print(json.dumps(twice), flush=True)
            turns = chats(servers, args)
            print(json.dumps(turns), flush=True)
        finally:
            for server in servers.values():
                server.stop()
    pathlib.Path(args.out).write_text(json.dumps(
        {"machine": machine.describe(), "model": pathlib.Path(args.model).name, "dtype": args.dtype, "threads": args.threads,
         "device": args.device, "seed": SEED, "asked_twice": twice, "chats": turns}, indent=1) + "\n")
    raise SystemExit(0 if twice["ids_equal"] and turns["ids_equal"] else 1)


if __name__ == "__main__":
    main()
