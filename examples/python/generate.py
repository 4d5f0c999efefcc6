"""Streams a generation from pregate. usage: generate.py ADDRESS PROMPT [DEADLINE_S]

Ctrl-C cancels. PREGATE_TLS_DIR names a folder with tls.crt, tls.key and ca.crt; without it: plaintext, loopback only.
PREGATE_SEED makes sampled text repeatable, PREGATE_MAX_TOKENS bounds it.
"""
import json
import os
import pathlib
import sys
import time

import grpc
from pregate.v1 import inference_pb2 as pb
from pregate.v1.inference_pb2_grpc import InferenceStub

# gRPC itself repeats a call that has had no answer yet, after the pause that an overloaded server asks for.
RETRY = {"methodConfig": [{"name": [{"service": "pregate.v1.Inference"}], "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]}


def connect(address):
    options = [("grpc.service_config", json.dumps(RETRY)), ("grpc.max_reconnect_backoff_ms", 2000)]
    if not (tls_dir := os.environ.get("PREGATE_TLS_DIR")):
        return grpc.insecure_channel(address, options)
    ca, key, cert = ((pathlib.Path(tls_dir) / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options)


def generate(stub, request, deadline):
    """Yields text. A stream that breaks goes on where it broke: same seed, tokens and routes, so the same text."""
    while True:
        call = stub.Generate(request, timeout=max(deadline - time.monotonic(), 0), wait_for_ready=True)
        try:
            for event in call:
                if event.HasField("start"):
                    for field in ("seed", "model_digest", "numerics_id"):
                        setattr(request.resume, field, getattr(event.start, field))
                request.resume.tokens.extend(event.tokens.ids)
                request.resume.routes.extend(event.tokens.routes)
                yield event.tokens.text
            return
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        finally:
            call.cancel()  # Ctrl-C: the server frees the sequence; no effect on a call that has ended


if __name__ == "__main__":
    prompt = pb.GenerateRequest(chat=pb.Chat(messages=[pb.ChatMessage(role="user", content=sys.argv[2])]))
    prompt.sampling.temperature, prompt.max_tokens = 0.7, int(os.environ.get("PREGATE_MAX_TOKENS", 256))
    if seed := os.environ.get("PREGATE_SEED"):
        prompt.sampling.seed = int(seed)
    try:
        for text in generate(InferenceStub(connect(sys.argv[1])), prompt, time.monotonic() + float((sys.argv + [60])[3])):
            print(text, end="", flush=True)
    except grpc.RpcError as error:
        sys.exit(f"\n{error.code().name}: {error.details()}")
    except KeyboardInterrupt:
        sys.exit("\ncancelled")
