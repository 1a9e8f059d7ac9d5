"""Writes that can be sent twice and are done once.

``Idempotency-Key`` on any write of the API: the first request with a key is done, and its answer is
stored in the same transaction; the same request again gets the stored answer. Refusals are not
stored: nothing was done.

Some writes are no single transaction. Their answer is stored right after them: a process that dies
between the two has the request done again, which does no harm (see ``in_steps`` of the views).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts.access import person_of
from annotator.api import services
from annotator.api.models import StoredAnswer
from annotator.api.problems import Problem
from annotator.clock import database_now

LONGEST_KEY = 80
_HEADERS_KEPT = ("ETag", "Location")


def answer_once(
    handler: Callable[..., Response], secret_fields: Sequence[str], *, in_steps: bool
) -> Callable[..., Response]:
    """Return the handler, done at most once per key of the request.

    Args:
        handler: a method of a view.
        secret_fields: what is shown once and never stored; a repeated answer has null there.
        in_steps: whether it must not run in a transaction of ours.
    """

    def handle(request: Request, *args: Any, **kwargs: Any) -> Response:
        row = _begin(request)
        if row.status is not None:
            headers = {**row.headers, "Idempotency-Replayed": "true"}
            return Response(row.body, status=row.status, headers=headers)
        try:
            with nullcontext() if in_steps else transaction.atomic():
                response = handler(request, *args, **kwargs)
                _keep(row, response, secret_fields)
        except services.AnswerInProgressError as error:
            raise _in_progress() from error
        except BaseException:
            services.drop_answer(row)
            raise
        return response

    return handle


def _begin(request: Request) -> StoredAnswer:
    try:
        return services.begin_answer(
            user=person_of(request),
            key=_key_of(request),
            request=f"{request.method} {request.path}",
            request_hash=_hash_of(request),
            now=database_now(),
        )
    except services.AnswerKeyReusedError as error:
        raise Problem(
            422, "idempotency-key-reused", "This Idempotency-Key was used for another body."
        ) from error
    except services.AnswerInProgressError as error:
        raise _in_progress() from error


def _key_of(request: Request) -> str:
    key = str(request.headers["Idempotency-Key"])
    if not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise Problem(
            400, "idempotency-key-invalid", f"At most {LONGEST_KEY} printable ASCII characters."
        )
    return key


def _hash_of(request: Request) -> str:
    asked = [request.META.get("QUERY_STRING", ""), request.headers.get("If-Match"), request.data]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _keep(row: StoredAnswer, response: Response, secret_fields: Sequence[str]) -> None:
    body: Any = None
    if response.data is not None:
        body = json.loads(JSONRenderer().render(response.data))
        body |= dict.fromkeys(secret_fields)
    headers = {name: response[name] for name in _HEADERS_KEPT if name in response}
    services.keep_answer(row, status=response.status_code, body=body, headers=headers)


def _in_progress() -> Problem:
    problem = Problem(
        409,
        "idempotency-in-progress",
        "The request with this Idempotency-Key is being worked on. Send it again in a moment.",
    )
    problem.wait = 1
    return problem
