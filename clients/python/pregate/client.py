"""The client for threads."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack

import grpc

from .connection import channel_options, credentials
from .errors import CancelledError, PregateError, translate
from .request import Options, Progress, Shown, make_chat, make_request
from .retry import Retry
from .types import Chunk, Generation, Message, ModelInfo
from .v1 import inference_pb2 as pb
from .v1 import inference_pb2_grpc

_Reply = TypeVar("_Reply")


def wait(channel: grpc.Channel, retry: Retry, error: PregateError) -> None:
    """Until the next try makes sense; raises `error` where that is never. gRPC connects only while somebody waits for it."""
    time.sleep(retry.pause_s(error))
    try:
        grpc.channel_ready_future(channel).result(timeout=retry.patience_s())
    except grpc.FutureTimeoutError:
        raise error from None


class Stream(Shown, Iterator[Chunk]):
    """A generation as it comes. One thread reads; any may cancel. A broken stream goes on by itself, with the same text."""

    def __init__(self, channel: grpc.Channel, request: pb.GenerateRequest, retry: Retry):
        self._channel, self._retry = channel, retry
        self._stub = inference_pb2_grpc.InferenceStub(channel)
        self._progress = Progress(request)
        self._call = self._send()

    def __next__(self) -> Chunk:
        while not self._progress.ended:
            try:
                event = next(self._call)
            except StopIteration:
                if not self._progress.ended:
                    raise PregateError(grpc.StatusCode.INTERNAL, "the stream ended without its end") from None
            except grpc.RpcError as error:
                self._again(translate(error))
            else:
                if (chunk := self._progress.take(event)) is not None:
                    self._retry.progress()
                    return chunk
        raise StopIteration

    def _send(self) -> Any:  # an iterator of messages, and a grpc.Call
        return self._stub.Generate(self._progress.request, timeout=self._retry.timeout_s())

    def _again(self, error: PregateError) -> None:
        """Sends the rest of the request; raises where it is not to be tried."""
        wait(self._channel, self._retry, error)
        if self._cancelled:
            raise CancelledError(grpc.StatusCode.CANCELLED, "cancelled by this client")
        self._progress.resumptions += self._progress.started
        self._call = self._send()
        if self._cancelled:  # by another thread, just now
            self._call.cancel()

    def result(self) -> Generation:
        """Reads to the end; all of it, what was read before too."""
        for _ in self:
            pass
        return self._progress.generation()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class Client:
    """A connection to one server. Threads may share it; `close` (or `with`) ends it and what runs on it."""

    def __init__(
        self,
        address: str,
        *,
        certs: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        timeout_s: float | None = 60.0,
        retry_s: float = 30.0,
    ):
        """`address`: HOST:PORT or unix:PATH. `certs`: folder of tls.crt, tls.key and ca.crt; without it plaintext, which
        servers offer on loopback and Unix sockets only. `timeout_s`: deadline of a call that names none; None: no
        deadline. `retry_s`: how long a failure is tried again without any progress; 0: not at all."""
        security, options = credentials(certs), channel_options(server_name)
        self._timeout_s, self._retry_s = timeout_s, retry_s
        if security is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, security, options)
        self._stub = inference_pb2_grpc.InferenceStub(self._channel)

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        *,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> Stream:
        """Starts a generation after a text, token ids or a conversation."""
        return Stream(self._channel, make_request(prompt, options), self._retry(timeout_s))

    def chat(self, messages: Sequence[Message], *, timeout_s: float | None = None, **options: Unpack[Options]) -> Stream:
        """Starts the answer to a conversation, by the model's chat template."""
        request = make_request("", options)
        request.chat.CopyFrom(make_chat(messages))
        return Stream(self._channel, request, self._retry(timeout_s))

    def tokenize(self, text: str, *, timeout_s: float | None = None) -> list[int]:
        """The ids of a text, as `generate` takes it."""
        return list(self._call(self._stub.Tokenize, pb.TokenizeRequest(text=text), timeout_s).ids)

    def tokenize_chat(self, messages: Sequence[Message], *, timeout_s: float | None = None) -> list[int]:
        """The ids of a conversation, as `chat` takes it."""
        request = pb.TokenizeRequest(chat=make_chat(messages))
        return list(self._call(self._stub.Tokenize, request, timeout_s).ids)

    def detokenize(self, ids: Sequence[int], *, timeout_s: float | None = None) -> str:
        """The text of token ids."""
        return self._call(self._stub.Detokenize, pb.DetokenizeRequest(ids=ids), timeout_s).text

    def model_info(self, *, timeout_s: float | None = None) -> ModelInfo:
        """What is served, and its limits."""
        return model_info(self._call(self._stub.GetModelInfo, pb.GetModelInfoRequest(), timeout_s))

    def _retry(self, timeout_s: float | None) -> Retry:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        return Retry(None if timeout_s is None else time.monotonic() + timeout_s, self._retry_s)

    def _call(self, method: Callable[..., _Reply], request: object, timeout_s: float | None) -> _Reply:
        retry = self._retry(timeout_s)
        while True:
            try:
                return method(request, timeout=retry.timeout_s())
            except grpc.RpcError as error:
                wait(self._channel, retry, translate(error))

    def close(self) -> None:
        """Ends the connection; what still runs on it fails with CancelledError."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def model_info(reply: pb.GetModelInfoResponse) -> ModelInfo:
    """The message as a plain value."""
    return ModelInfo(
        reply.model,
        reply.model_digest,
        reply.numerics_id,
        reply.vocab_size,
        reply.context_tokens,
        reply.num_layers,
        reply.num_experts,
        list(reply.stop_token_ids),
    )
