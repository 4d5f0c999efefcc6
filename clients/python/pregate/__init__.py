"""Client of pregate (docs/API.md): generations that stream and resume, with deadlines, retries and mutual TLS.

    with pregate.Client("127.0.0.1:7600") as client:
        for chunk in client.generate("Once upon a time", max_tokens=32):
            print(chunk.text, end="", flush=True)

`AsyncClient` is the same with asyncio. What goes wrong is a subclass of `PregateError`.
"""

from .aio import AsyncClient, AsyncStream
from .client import Client, Stream
from .errors import (
    CancelledError,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    DeniedError,
    PregateError,
    ResumeRefusedError,
    UnavailableError,
    UnsupportedError,
)
from .request import Options
from .types import Chunk, Generation, Logprob, Message, ModelInfo, ResumePoint, Timings, Usage

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "CancelledError",
    "Chunk",
    "Client",
    "DeadlineError",
    "Generation",
    "InternalError",
    "InvalidRequestError",
    "Logprob",
    "Message",
    "ModelInfo",
    "Options",
    "OverloadedError",
    "DeniedError",
    "PregateError",
    "ResumePoint",
    "ResumeRefusedError",
    "Stream",
    "Timings",
    "UnavailableError",
    "UnsupportedError",
    "Usage",
]
