"""What can go wrong, as exceptions whose text says what to do."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


class AnnotatorError(Exception):
    """Anything this package raises on purpose."""


class UnreachableError(AnnotatorError):
    """Nobody answered, for as long as the client was patient."""


class UnansweredError(AnnotatorError):
    """The next image was asked for before this one was submitted, skipped or released."""


class RoundFailedError(AnnotatorError):
    """A round has failed; the text has the server's reason."""


class WaitedTooLongError(AnnotatorError):
    """What was waited for did not happen in time."""


class WebhookRefusedError(AnnotatorError):
    """A message is not from the server, or too old."""


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a body, or one parameter.

    Attributes:
        pointer: which, as a JSON pointer.
        code: stable.
        message: for people.
    """

    pointer: str
    code: str
    message: str


class ApiError(AnnotatorError):
    """The server refused a request.

    Attributes:
        status: the HTTP status.
        code: stable; all are listed in docs/api.md.
        detail: for people.
        errors: the fields that are wrong.
        problem: the whole answer, for example ``current`` of a version mismatch.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code") or f"http-{status}")
        self.detail = str(problem.get("detail") or _phrase(status))
        self.errors = [
            FieldError(
                str(entry.get("pointer", "")),
                str(entry.get("code", "")),
                str(entry.get("message", "")),
            )
            for entry in problem.get("errors") or []
        ]
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        fields = "; ".join(f"{entry.pointer}: {entry.message}" for entry in self.errors)
        return f"{self.detail} ({fields})" if fields else self.detail


class InvalidRequestError(ApiError):
    """400, 413, 415 or 422: the request is wrong; sending it again does not help."""


class NotSignedInError(ApiError):
    """401: no token, or one that is unknown, revoked or expired."""


class ForbiddenError(ApiError):
    """403: the role or the scope of the token is too small."""


class NotFoundError(ApiError):
    """404 or 410: it does not exist, is not yours to see, or its project is archived."""


class ConflictError(ApiError):
    """409, 412 or 428: something is in the way or has changed meanwhile."""


class RateLimitedError(ApiError):
    """429, for longer than the client was patient."""


class ServerError(ApiError):
    """5xx, for longer than the client was patient."""


_KINDS: dict[int, type[ApiError]] = {
    401: NotSignedInError,
    403: ForbiddenError,
    404: NotFoundError,
    410: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    428: ConflictError,
    429: RateLimitedError,
}


def error_of(status: int, problem: dict[str, Any]) -> ApiError:
    """Return the exception for an answer that is an error."""
    plain = ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidRequestError
    return _KINDS.get(status, plain)(status, problem)


def _phrase(status: int) -> str:
    try:
        return f"The server answered {status} {HTTPStatus(status).phrase}."
    except ValueError:
        return f"The server answered {status}."
