"""What goes wrong, one class a remedy. `code` and `details` are the gRPC status; `details` names field and value."""

import grpc

PUSHBACK = "grpc-retry-pushback-ms"


class PregateError(Exception):
    """Base of all; itself for statuses that have no class of their own."""

    def __init__(self, code: grpc.StatusCode, details: str, retry_after_s: float | None = None):
        super().__init__(f"{code.name}: {details}")
        self.code, self.details = code, details
        self.retry_after_s = retry_after_s  # when the server says that trying again makes sense


class InvalidRequestError(PregateError):
    """The request can never succeed here: mend the field that `details` names."""


class UnsupportedError(PregateError):
    """The server knows the field or the call, but cannot do it."""


class OverloadedError(PregateError):
    """The queue is full, or the stream was read too slowly: again after `retry_after_s`."""


class UnavailableError(PregateError):
    """No server answers, or it drains: again later."""


class DeadlineError(PregateError):
    """The deadline passed; what was streamed until then is valid, and can be resumed from."""


class CancelledError(PregateError):
    """Somebody cancelled the call."""


class ResumeRefusedError(PregateError):
    """A resume at another model or other numerics: not with these tokens."""


class DeniedError(PregateError):
    """Mutual TLS: this certificate may not."""


class InternalError(PregateError):
    """A fault of the server's."""


_CLASSES = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: InvalidRequestError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.FAILED_PRECONDITION: ResumeRefusedError,
    grpc.StatusCode.UNAUTHENTICATED: DeniedError,
    grpc.StatusCode.PERMISSION_DENIED: DeniedError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.DATA_LOSS: InternalError,
    grpc.StatusCode.UNKNOWN: InternalError,
}


def translate(error: grpc.RpcError) -> PregateError:
    """The exception for an ended call. `error` is a grpc.Call too, of either API."""
    code, details = error.code(), error.details() or ""  # type: ignore[attr-defined]
    return _CLASSES.get(code, PregateError)(code, details, pushback_s(error))


def pushback_s(error: grpc.RpcError) -> float | None:
    """The pause that the server names, in seconds; negative where it says: never again."""
    for key, value in error.trailing_metadata() or ():  # type: ignore[attr-defined]
        if key == PUSHBACK:
            try:
                return int(value) / 1000
            except ValueError:
                return -1.0  # what gRPC's own clients make of nonsense
    return None
