"""Streams an answer from pregate, with a deadline, retry, resume and mTLS; Ctrl-C cancels it.

usage: generate.py ADDRESS REQUEST [DEADLINE_S]     REQUEST: a GenerateRequest as JSON, '{"text": "Hello"}'
PREGATE_TLS_DIR names a folder with tls.crt, tls.key and ca.crt; without it the connection is plaintext.
"""
import os
import pathlib
import sys
import time

import grpc
from google.protobuf import json_format
from pregate.v1 import inference_pb2, inference_pb2_grpc

# gRPC repeats a call that got no answer yet; where an overloaded server names a pause, after that pause.
RETRY = [("grpc.service_config", """{"methodConfig": [{"name": [{}], "waitForReady": true, "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]}""")]


def connect(address, tls_dir):
    if not tls_dir:
        return grpc.insecure_channel(address, RETRY)
    ca, key, cert = ((pathlib.Path(tls_dir) / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), RETRY)


def generate(stub, request, deadline):
    """Yields text. A broken stream goes on where it broke: same seed, tokens and routes, so the same text."""
    while True:
        call = stub.Generate(request, timeout=deadline - time.monotonic())
        try:
            for event in call:
                for field in ("seed", "model_digest", "numerics_id") if event.HasField("start") else ():
                    setattr(request.resume, field, getattr(event.start, field))
                request.resume.tokens.extend(event.tokens.ids)
                request.resume.routes.extend(event.tokens.routes)
                yield event.tokens.text
            return
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
        finally:
            call.cancel()  # whoever stops reading frees the sequence; a call that has ended does not mind


if len(sys.argv) < 3:
    sys.exit(__doc__)
try:
    message = json_format.Parse(sys.argv[2], inference_pb2.GenerateRequest())
    inference = inference_pb2_grpc.InferenceStub(connect(sys.argv[1], os.getenv("PREGATE_TLS_DIR")))
    for text in generate(inference, message, time.monotonic() + float((*sys.argv, 60)[3])):
        print(text, end="", flush=True)
except (json_format.ParseError, OSError, ValueError) as mistake:  # in REQUEST, PREGATE_TLS_DIR, DEADLINE_S
    sys.exit(f"generate.py: {mistake}")
except grpc.RpcError as error:
    sys.exit(f"\n{error.code().name}: {error.details()}")
except KeyboardInterrupt:
    sys.exit("\nCANCELLED")
