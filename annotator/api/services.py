"""Keeping answers for requests that are sent twice."""

from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError

from annotator.accounts.models import User
from annotator.api.models import StoredAnswer

# Longer than any request is let run; whoever holds a key for longer has died.
TAKEN_OVER_AFTER = timedelta(minutes=3)
FORGOTTEN_AT_ONCE = 1000


class AnswerKeyReusedError(Exception):
    """The key was used for another request."""


class AnswerInProgressError(Exception):
    """The same request is being worked on."""


def begin_answer(
    *, user: User, key: str, request: str, request_hash: str, now: datetime
) -> StoredAnswer:
    """Return the stored answer, or a row without a status: then the request is the caller's to do.

    Raises:
        AnswerKeyReusedError: the key stands for another body.
        AnswerInProgressError: somebody is at it.
    """
    try:
        row, is_new = StoredAnswer.objects.get_or_create(
            user=user,
            key=key,
            request=request,
            defaults={"request_hash": request_hash, "started_at": now},
        )
    except IntegrityError as error:
        # It was there a moment ago, and the request it stood for has just failed.
        raise AnswerInProgressError from error
    if is_new:
        return row
    if row.request_hash != request_hash:
        raise AnswerKeyReusedError
    if row.status is None and not _take_over(row, now):
        raise AnswerInProgressError
    return row


def _take_over(row: StoredAnswer, now: datetime) -> bool:
    if row.started_at > now - TAKEN_OVER_AFTER:
        return False
    unfinished = StoredAnswer.objects.filter(pk=row.pk, status=None, started_at=row.started_at)
    row.started_at = now
    return bool(unfinished.update(started_at=now))


def keep_answer(row: StoredAnswer, *, status: int, body: Any, headers: dict[str, str]) -> None:
    """Store the answer, in the transaction of the write it tells of.

    Raises:
        AnswerInProgressError: somebody has taken the request over; undo what was done.
    """
    kept = StoredAnswer.objects.filter(pk=row.pk, started_at=row.started_at, status=None).update(
        status=status, body=body, headers=headers
    )
    if not kept:
        raise AnswerInProgressError


def drop_answer(row: StoredAnswer) -> None:
    """Free the key of a request that was refused or failed: nothing was done."""
    StoredAnswer.objects.filter(pk=row.pk, started_at=row.started_at, status=None).delete()


def forget_answers(*, before: datetime) -> None:
    """Drop the answers to requests that came before a time, some in a transaction."""
    old = StoredAnswer.objects.filter(started_at__lt=before).order_by("pk")
    while some := list(old.values_list("pk", flat=True)[:FORGOTTEN_AT_ONCE]):
        StoredAnswer.objects.filter(pk__in=some).delete()
