"""The client for asyncio: the same calls as `Client`, awaited."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Unpack

import grpc
import grpc.aio

from .client import model_info
from .connection import channel_options, credentials
from .errors import CancelledError, PregateError, translate
from .request import Options, Progress, Shown, make_chat, make_request
from .retry import Retry
from .types import Chunk, Generation, Message, ModelInfo
from .v1 import inference_pb2 as pb
from .v1 import inference_pb2_grpc



async def wait(channel: grpc.aio.Channel, retry: Retry, error: PregateError) -> None:
    """Until the next try makes sense; raises `error` where that is never."""
    await asyncio.sleep(retry.pause_s(error))
    try:
        await asyncio.wait_for(channel.channel_ready(), retry.patience_s())
    except TimeoutError:
        raise error from None


class AsyncStream(Shown, AsyncIterator[Chunk]):
    """A generation as it comes. One task reads; any may cancel. A broken stream goes on by itself, with the same text."""

    def __init__(self, channel: grpc.aio.Channel, request: pb.GenerateRequest, retry: Retry):
        self._channel, self._retry = channel, retry
        self._stub: Any = inference_pb2_grpc.InferenceStub(channel)
        self._progress = Progress(request)
        self._call = self._send()

    async def __anext__(self) -> Chunk:
        while not self._progress.ended:
            try:
                event = await self._call.read()
            except grpc.RpcError as error:
                await self._again(translate(error))
            except asyncio.CancelledError:
                if self._cancelled:  # by cancel(), not the task that reads
                    raise CancelledError(grpc.StatusCode.CANCELLED, "cancelled by this client") from None
                self.cancel()
                raise
            else:
                if event is grpc.aio.EOF:
                    raise PregateError(grpc.StatusCode.INTERNAL, "the stream ended without its end")
                if (chunk := self._progress.take(event)) is not None:
                    self._retry.progress()
                    return chunk
        raise StopAsyncIteration

    def _send(self) -> Any:
        return self._stub.Generate(self._progress.request, timeout=self._retry.timeout_s())

    async def _again(self, error: PregateError) -> None:
        """Sends the rest of the request; raises where it is not to be tried."""
        await wait(self._channel, self._retry, error)
        if self._cancelled:
            raise CancelledError(grpc.StatusCode.CANCELLED, "cancelled by this client")
        self._progress.resumptions += self._progress.started
        self._call = self._send()

    async def result(self) -> Generation:
        """Reads to the end; all of it, what was read before too."""
        async for _ in self:
            pass
        return self._progress.generation()

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()


class AsyncClient:
    """A connection to one server, for the tasks of one event loop. Arguments as of `Client`."""

    def __init__(
        self,
        address: str,
        *,
        certs: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        timeout_s: float | None = 60.0,
        retry_s: float = 30.0,
    ):
        security, options = credentials(certs), channel_options(server_name)
        self._timeout_s, self._retry_s = timeout_s, retry_s
        if security is None:
            self._channel = grpc.aio.insecure_channel(address, options)
        else:
            self._channel = grpc.aio.secure_channel(address, security, options)
        self._stub: Any = inference_pb2_grpc.InferenceStub(self._channel)

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        *,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncStream:
        """Starts a generation after a text, token ids or a conversation."""
        return AsyncStream(self._channel, make_request(prompt, options), self._retry(timeout_s))

    def chat(
        self, messages: Sequence[Message], *, timeout_s: float | None = None, **options: Unpack[Options]
    ) -> AsyncStream:
        """Starts the answer to a conversation, by the model's chat template."""
        request = make_request("", options)
        request.chat.CopyFrom(make_chat(messages))
        return AsyncStream(self._channel, request, self._retry(timeout_s))

    async def tokenize(self, text: str, *, timeout_s: float | None = None) -> list[int]:
        """The ids of a text, as `generate` takes it."""
        return list((await self._call(self._stub.Tokenize, pb.TokenizeRequest(text=text), timeout_s)).ids)

    async def tokenize_chat(self, messages: Sequence[Message], *, timeout_s: float | None = None) -> list[int]:
        """The ids of a conversation, as `chat` takes it."""
        request = pb.TokenizeRequest(chat=make_chat(messages))
        return list((await self._call(self._stub.Tokenize, request, timeout_s)).ids)

    async def detokenize(self, ids: Sequence[int], *, timeout_s: float | None = None) -> str:
        """The text of token ids."""
        return (await self._call(self._stub.Detokenize, pb.DetokenizeRequest(ids=ids), timeout_s)).text

    async def model_info(self, *, timeout_s: float | None = None) -> ModelInfo:
        """What is served, and its limits."""
        return model_info(await self._call(self._stub.GetModelInfo, pb.GetModelInfoRequest(), timeout_s))

    def _retry(self, timeout_s: float | None) -> Retry:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        return Retry(None if timeout_s is None else time.monotonic() + timeout_s, self._retry_s)

    async def _call(self, method: Callable[..., Any], request: object, timeout_s: float | None) -> Any:
        retry = self._retry(timeout_s)
        while True:
            try:
                return await method(request, timeout=retry.timeout_s())
            except grpc.RpcError as error:
                await wait(self._channel, retry, translate(error))

    async def close(self) -> None:
        """Ends the connection; what still runs on it fails with CancelledError."""
        await self._channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
