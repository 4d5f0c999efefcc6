"""When a call is tried again: pure, shared by both clients. Times are seconds of a monotonic clock."""

import dataclasses
import random
import time

import grpc

from .errors import PregateError

_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


@dataclasses.dataclass
class Retry:
    """Tries of one request until its deadline, for at most `retry_s` without any progress."""

    deadline: float | None
    retry_s: float
    _pause_s: float = _FIRST_PAUSE_S
    _gives_up: float | None = None  # set by the first failure since the last progress

    def progress(self) -> None:
        """Tokens came: the next failure is a first one again."""
        self._pause_s, self._gives_up = _FIRST_PAUSE_S, None

    def timeout_s(self) -> float | None:
        """What is left for the next try; None: no limit."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def pause_s(self, error: PregateError) -> float:
        """How long to wait before the next try; raises `error` where there is to be none. The server's own word counts."""
        now = time.monotonic()
        if self._gives_up is None:
            self._gives_up = now + self.retry_s
        pause = error.retry_after_s
        if error.code not in _AGAIN or (pause is not None and pause < 0):
            raise error
        if pause is None:
            pause = self._pause_s * random.uniform(0.8, 1.2)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        ends = self._gives_up if self.deadline is None else min(self._gives_up, self.deadline)
        if now + pause > ends:
            raise error
        return pause

    def patience_s(self) -> float:
        """After a failure: how long to wait for the connection that the next try needs."""
        ends = [end for end in (self._gives_up, self.deadline) if end is not None]
        return max(0.0, min(ends) - time.monotonic())
