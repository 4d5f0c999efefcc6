"""What a client gets and gives: plain values, no messages of the protocol."""

import dataclasses
from typing import TypedDict


class Message(TypedDict):
    """One message of a conversation."""

    role: str  # "system", "user" or "assistant"
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class Logprob:
    """A token in its place, with the natural logarithm of its probability by the model alone."""

    token: int
    logprob: float
    bytes: bytes  # may be a part of a UTF-8 character
    top: "list[Logprob]"  # the likeliest in its place, as many as were asked for


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """What one step gave. The texts of all chunks joined are the answer; a chunk may have tokens and no text."""

    text: str
    tokens: list[int]
    routes: list[int]  # the expert of each token; empty for a dense model, -1 for a last token that nobody routed
    logprobs: list[Logprob]  # one a token, with the option logprobs


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted."""

    prompt_tokens: int
    generated_tokens: int
    cached_tokens: int
    preemptions: int
    draft_tokens: int
    accepted_tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """Seconds on the server, from the request's acceptance (of its last part, where it was resumed)."""

    queue_seconds: float
    route_seconds: float
    ttft_seconds: float
    total_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class ResumePoint:
    """All that a generation needs to go on where it is, in another process or on another day too."""

    tokens: list[int]
    routes: list[int]
    model_digest: str
    numerics_id: str
    seed: int


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """A generation that has ended."""

    text: str
    tokens: list[int]
    routes: list[int]
    logprobs: list[Logprob]  # with logprobs
    prompt_tokens: list[int]  # with echo, as is prompt_text
    prompt_text: str
    prompt_routes: list[int]  # with return_routes
    prompt_logprobs: list[Logprob]  # with prompt_logprobs; the first token has none
    finish_reason: str  # "length", "stop_token" or "stop_string"
    stop_string: str
    usage: Usage
    timings: Timings
    request_id: str
    seed: int
    resumptions: int  # how often the stream broke and went on


@dataclasses.dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is served."""

    model: str
    model_digest: str
    numerics_id: str
    vocab_size: int
    context_tokens: int
    num_layers: int
    num_experts: int  # 0: a dense model
    stop_token_ids: list[int]
