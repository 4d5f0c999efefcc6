"""One generation's request and what has come of it: pure, shared by both clients."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from .types import Chunk, Generation, Logprob, Message, ResumePoint, Timings, Usage
from .v1 import inference_pb2 as pb

_SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "seed",
)
_FINISH = {
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_STOP_TOKEN: "stop_token",
    pb.FINISH_REASON_STOP_STRING: "stop_string",
}


class Options(TypedDict, total=False):
    """How to generate; what is not given is the server's default (inference.proto says which)."""

    max_tokens: int
    min_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float]
    seed: int
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    logprobs: int
    prompt_logprobs: int
    echo: bool
    return_routes: bool
    no_drafts: bool
    request_id: str
    tenant: str
    priority: int
    model: str
    resume: ResumePoint
    fields: Mapping[str, Any]  # further fields of GenerateRequest by name, for a server newer than this client


def make_request(prompt: str | Sequence[int] | Sequence[Message], options: Options) -> pb.GenerateRequest:
    """The message; a TypeError or ValueError names what does not fit."""
    request = pb.GenerateRequest()
    _set_prompt(request, prompt)
    for name, value in options.items():
        if value is None:
            continue
        try:
            _set_option(request, name, value)
        except (TypeError, ValueError, AttributeError) as error:
            raise type(error)(f"{name}={value!r}: {error}") from None
    return request


def _set_prompt(request: pb.GenerateRequest, prompt: str | Sequence[int] | Sequence[Message]) -> None:
    if isinstance(prompt, str):
        request.text = prompt
    elif all(isinstance(part, int) for part in prompt):
        request.tokens.SetInParent()
        request.tokens.ids.extend(prompt)  # type: ignore[arg-type]
    else:
        request.chat.CopyFrom(make_chat(prompt))  # type: ignore[arg-type]


def make_chat(messages: Sequence[Message]) -> pb.Chat:
    """The conversation as a message."""
    return pb.Chat(messages=[pb.ChatMessage(**message) for message in messages])


def _set_option(request: pb.GenerateRequest, name: str, value: Any) -> None:
    if name in _SAMPLING:
        request.sampling.MergeFrom(pb.Sampling(**{name: value}))
    elif name == "stop":
        request.stop_strings.extend([value] if isinstance(value, str) else value)
    elif name == "resume":
        request.resume.MergeFrom(
            pb.Resume(
                tokens=value.tokens,
                routes=value.routes,
                model_digest=value.model_digest,
                numerics_id=value.numerics_id,
                seed=value.seed,
            )
        )
    elif name == "fields":
        request.MergeFrom(pb.GenerateRequest(**value))
        if request.n > 1 or request.best_of > 1:
            raise ValueError("a stream is one generation, which can resume: start several, each with its seed")
    elif name in Options.__annotations__:
        request.MergeFrom(pb.GenerateRequest(**{name: value}))
    else:
        raise TypeError("no such option")


class Progress:
    """What has come of a generation. `request` is always the one to send next: after a break it resumes."""

    def __init__(self, request: pb.GenerateRequest):
        self.request = request
        self.resumptions = 0
        self._texts: list[str] = []
        self._logprobs: list[Logprob] = []
        self._prompt_logprobs: list[Logprob] = []
        self._start = pb.GenerateStart()  # the first one
        self._resumed_tokens = len(request.resume.tokens)
        self._resumed_routes = len(request.resume.routes)
        self._done: pb.GenerateDone | None = None

    def take(self, event: pb.GenerateResponse) -> Chunk | None:
        """Takes one message of the stream; its tokens, where it has some."""
        if event.HasField("start"):
            start, resume = event.start, self.request.resume
            if not self._start.model_digest:
                self._start = start
            self.request.request_id = start.request_id
            resume.seed, resume.model_digest, resume.numerics_id = start.seed, start.model_digest, start.numerics_id
            self._prompt_logprobs = []  # they come with each start
        elif event.HasField("prompt"):
            self._prompt_logprobs += _logprobs(event.prompt.logprobs)
        elif event.HasField("tokens"):
            tokens = event.tokens
            self.request.resume.tokens.extend(tokens.ids)
            self.request.resume.routes.extend(tokens.routes)
            self._texts.append(tokens.text)
            logprobs = _logprobs(tokens.logprobs)
            self._logprobs += logprobs
            return Chunk(tokens.text, list(tokens.ids), list(tokens.routes), logprobs)
        elif event.HasField("done"):
            self._done = event.done
        return None

    @property
    def started(self) -> bool:
        """Whether the server has taken it up, so that another try resumes."""
        return bool(self.request.resume.model_digest)

    @property
    def ended(self) -> bool:
        """Whether all has come."""
        return self._done is not None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    @property
    def resume_point(self) -> ResumePoint | None:
        """Where it is; None before the server has taken it up."""
        if not self.started:
            return None
        resume = self.request.resume
        return ResumePoint(
            list(resume.tokens), list(resume.routes), resume.model_digest, resume.numerics_id, resume.seed
        )

    def generation(self) -> Generation:
        """All of it, once it has ended."""
        done = self._done
        if done is None:
            raise RuntimeError("the generation has not ended")
        resume = self.request.resume
        return Generation(
            text=self.text,
            tokens=list(resume.tokens[self._resumed_tokens :]),
            routes=list(resume.routes[self._resumed_routes :]),
            logprobs=self._logprobs,
            prompt_tokens=list(self._start.prompt_ids),
            prompt_text=self._start.prompt_text,
            prompt_routes=list(self._start.prompt_routes),
            prompt_logprobs=self._prompt_logprobs,
            finish_reason=_FINISH.get(done.finish_reason, str(done.finish_reason)),
            stop_string=done.stop_string,
            usage=Usage(
                done.usage.prompt_tokens,
                done.usage.generated_tokens,
                done.usage.cached_tokens,
                done.usage.preemptions,
                done.usage.draft_tokens,
                done.usage.accepted_tokens,
            ),
            timings=Timings(
                done.timings.queue_seconds,
                done.timings.route_seconds,
                done.timings.ttft_seconds,
                done.timings.total_seconds,
            ),
            request_id=self.request.request_id,
            seed=resume.seed,
            resumptions=self.resumptions,
        )


def _logprobs(messages: Iterable[pb.TokenProbabilities]) -> list[Logprob]:
    def one(message: pb.TokenProbability, top: list[Logprob]) -> Logprob:
        return Logprob(message.id, message.logprob, message.bytes, top)

    return [one(m.token, [one(likely, []) for likely in m.top]) for m in messages]


class Shown:
    """What a stream of either kind shows of its progress, and how it is cancelled."""

    _progress: Progress
    _call: Any  # an iterator of messages, and a grpc.Call
    _cancelled = False

    @property
    def text(self) -> str:
        """The text so far."""
        return self._progress.text

    @property
    def resume_point(self) -> ResumePoint | None:
        """Where the generation is, for `resume=` of a later call; None before the server has taken it up."""
        return self._progress.resume_point

    def cancel(self) -> None:
        """Ends it; the server frees its memory within a step. Does nothing at a stream that has ended."""
        self._cancelled = True
        self._call.cancel()
