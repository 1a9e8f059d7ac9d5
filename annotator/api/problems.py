"""Errors as problem+json (RFC 9457): stable codes, pointers, no internals."""

import errno
import logging
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest
from rest_framework import exceptions, status
from rest_framework.request import Request
from rest_framework.response import Response

logger = logging.getLogger(__name__)

TITLES = {
    400: "The request could not be read",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Archived",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Unsupported type",
    416: "Not that long",
    422: "The request makes no sense here",
    428: "A condition is required",
    429: "Too many requests",
    500: "The server made a mistake",
    503: "Busy",
    507: "Out of storage",
}


# The codes of what Django REST framework refuses by itself, by status.
FRAMEWORK_CODES = {
    400: "parse-error",
    401: "not-authenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    415: "unsupported-type",
}

DATABASE_WAIT_S = 1


class Problem(exceptions.APIException):
    """An error answer with a stable code and a sentence that says what to do next."""

    wait: float = 0  # seconds after which the same request may succeed

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: list[dict[str, str]] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail, code)
        self.status_code = status
        self.code = code
        self.errors = errors or []
        self.extra = extra


def problem_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception of a view into a problem+json answer (DRF's exception handler)."""
    problem = _as_problem(error)
    if problem is None:
        return None
    body = body_of(problem, context["request"])
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None) or problem.wait:
        headers["Retry-After"] = str(int(wait) + 1)
    return Response(
        body, status=problem.status_code, headers=headers, content_type="application/problem+json"
    )


def body_of(problem: Problem, request: Request | HttpRequest) -> dict[str, Any]:
    """Return the body of a problem+json answer."""
    body: dict[str, Any] = {
        "type": f"urn:annotator:problem:{problem.code}",
        "title": TITLES.get(problem.status_code, "Error"),
        "status": problem.status_code,
        "code": problem.code,
        "detail": str(problem.detail),
        "instance": request.path,
        "request_id": request.META.get("annotator.request_id", ""),
        **problem.extra,
    }
    if problem.errors:
        body["errors"] = problem.errors
    return body


def outcome_of(error: Problem | exceptions.ValidationError) -> dict[str, Any]:
    """Return what an answer about many things says of one that was refused."""
    problem = error if isinstance(error, Problem) else _of_fields(error)
    outcome: dict[str, Any] = {
        "status": problem.status_code,
        "code": problem.code,
        "detail": str(problem.detail),
    }
    return outcome | ({"errors": problem.errors} if problem.errors else {})


def _of_fields(error: exceptions.ValidationError) -> Problem:
    errors = list(_pointers(error.detail, ""))
    return Problem(
        400,
        "validation-error",
        errors[0]["message"] if len(errors) == 1 else "Some fields are not valid.",
        errors,
    )


def _as_problem(error: Exception) -> Problem | None:
    if isinstance(error, Problem):
        return error
    if isinstance(error, Http404):
        return Problem(404, "not-found", "There is nothing at this address.")
    if isinstance(error, DjangoPermissionDenied):
        return Problem(403, "forbidden", str(error) or "You may not do this.")
    if isinstance(error, exceptions.ValidationError):
        return _of_fields(error)
    if isinstance(error, exceptions.APIException) and error.status_code in FRAMEWORK_CODES:
        return Problem(error.status_code, FRAMEWORK_CODES[error.status_code], str(error.detail))
    if _is_full(error):
        logger.error("storage is full: %s", error)
        return Problem(
            status.HTTP_507_INSUFFICIENT_STORAGE,
            "storage-full",
            "The server's disk is full. Nothing was stored; free some space and send it again.",
        )
    if isinstance(error, OperationalError | InterfaceError):
        logger.error("the database does not answer: %s", error)
        problem = Problem(
            status.HTTP_503_SERVICE_UNAVAILABLE,
            "database-unavailable",
            "The database does not answer now. Nothing was stored; send it again in a moment.",
        )
        problem.wait = DATABASE_WAIT_S
        return problem
    return None


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    # SQLite has a sentence for it, PostgreSQL a code.
    cause = error.__cause__
    return isinstance(error, OperationalError) and (
        "disk is full" in str(error) or getattr(cause, "sqlstate", "") == "53100"
    )


def _pointers(detail: Any, path: str) -> Any:
    """Yield one entry per message of DRF's nested error detail, with a JSON pointer."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            step = (
                ""
                if key == "non_field_errors"
                else f"/{str(key).replace('~', '~0').replace('/', '~1')}"
            )
            yield from _pointers(value, path + step)
    elif isinstance(detail, list) and any(isinstance(entry, dict | list) for entry in detail):
        for index, value in enumerate(detail):
            yield from _pointers(value, f"{path}/{index}")
    elif isinstance(detail, list):
        for value in detail:
            yield from _pointers(value, path)
    else:
        yield {
            "pointer": path,
            "code": str(getattr(detail, "code", "invalid")),
            "message": str(detail),
        }
