#!/usr/bin/env python3
"""What a client that reads nothing costs another connection: its TTFT and the gaps between its tokens, without and beside it.

usage: unread_streams.py --server HOST:PORT [--unread 300] [--unread-tokens 200] [--tokens 16] [--seconds 10] [--desc inference.desc]
prints one JSON object. Needs grpcio and protobuf; inference.desc is
`protoc -I proto --include_imports --descriptor_set_out=inference.desc proto/pregate/v1/inference.proto`. Seed 1.
"""
import argparse
import json
import random
import threading
import time

from gpu.cell_faults import Client

PROMPT_TOKENS = 32


def prompt(source):
    return [source.randrange(3, 250) for _ in range(PROMPT_TOKENS)]


def quantile(values, q):
    return None if not values else round(sorted(values)[min(int(len(values) * q), len(values) - 1)], 4)


def watch(args, seconds):
    """Requests of one connection, one after the other."""
    client, source = Client(args.desc, args.server), random.Random(1)
    ttft, gaps, errors = [], [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = client.stream(prompt(source), args.tokens)
        at = answer["at"]
        if answer["error"] or len(at) < 2:
            errors.append(answer["error"])
            continue
        ttft.append(at[1] - at[0])
        gaps += [b - a for a, b in zip(at[1:], at[2:])]
    return {"requests": len(ttft), "failed": len(errors), "errors": sorted(set(map(str, errors)))[:3],
            "ttft_s": {"p50": quantile(ttft, .5), "max": quantile(ttft, 1)},
            "gap_s": {"p50": quantile(gaps, .5), "p99": quantile(gaps, .99), "max": quantile(gaps, 1)}}


def open_unread(args):
    """Streams that are started and never read; gRPC takes their messages until its windows are full."""
    client, source = Client(args.desc, args.server), random.Random(2)
    calls = []
    for _ in range(args.unread):
        request = client.request_type(max_tokens=args.unread_tokens, ignore_eos=True)
        request.tokens.ids.extend(prompt(source))
        calls.append(client.call(request))
    return client, calls


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True)
    parser.add_argument("--unread", type=int, default=300, help="streams that are not read")
    parser.add_argument("--unread-tokens", type=int, default=200, help="that each of them asks for")
    parser.add_argument("--tokens", type=int, default=16, help="of each request that is watched")
    parser.add_argument("--seconds", type=float, default=10, help="of each of the two measurements")
    parser.add_argument("--desc", default="inference.desc")
    args = parser.parse_args()
    alone = watch(args, args.seconds)
    beside = {}
    watcher = threading.Thread(target=lambda: beside.update(watch(args, args.seconds)))
    client, calls = open_unread(args)
    watcher.start()
    watcher.join()
    for call in calls:
        call.cancel()
    client.channel.close()
    print(json.dumps({"unread_streams": args.unread, "alone": alone, "beside": beside}, indent=1))


if __name__ == "__main__":
    main()
