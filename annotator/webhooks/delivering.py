"""Taking turns at a webhook, sending what is due, and what follows from the answers."""

import json
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from annotator import outbound
from annotator.clock import database_now
from annotator.events import services as events
from annotator.webhooks import signing
from annotator.webhooks.models import Delivery, DeliveryAttempt, Webhook
from annotator.webhooks.outbox import ring

# Standard Webhooks' example: nine more tries in about three days.
WAITS = [
    timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
]  # fmt: skip
JITTER = 0.2
LONGEST_WAIT = timedelta(hours=24)
# After so many failures in a row one delivery at a time finds out whether the receiver is back.
BREAK_AFTER = 10
REST = timedelta(minutes=5)
# Shorter than all tries together take, so that a receiver that never answered is switched off.
DISABLE_AFTER = timedelta(days=3)
MOST_PENDING = 10_000
KEEP = timedelta(days=30)
PRUNED_AT_ONCE = 1000
ROWS_AT_ONCE = 500
DROPPED_AT_ONCE = 50  # each with up to ten attempts and more

AT_ONCE = 8
TURN_S = 5.0
LEASE = timedelta(minutes=2)
LIMITS = outbound.Limits(total_s=10, idle_s=10, max_bytes=64 * 1024)
ANSWER_KEPT = 1024

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt; without a status nobody answered."""

    status: int | None = None
    milliseconds: int | None = None
    code: str = ""
    reason: str = ""
    answer: str = ""
    retry_after: timedelta = timedelta(0)

    @property
    def succeeded(self) -> bool:
        """Whether the receiver has taken the message."""
        return self.status is not None and 200 <= self.status < 300


def deliver(webhook_id: int) -> int:
    """Send what is due for a webhook and return how much that was.

    One worker at a time does so; after some seconds it lets others use the worker and rings again.
    """
    turn = _take_turn(webhook_id)
    if turn is None:
        return 0
    n_sent, ends = 0, time.monotonic() + TURN_S
    try:
        while time.monotonic() < ends and (n := _send_group(webhook_id, turn)):
            n_sent += n
    finally:
        _end_turn(webhook_id, turn)
    # Also for what was committed between the last look and the end of the turn.
    if _due(database_now()).filter(webhook=webhook_id).exists():
        ring(webhook_id)
    return n_sent


def sweep(*, now: datetime) -> int:
    """Ring for every webhook that has something due and nobody at work; return how many."""
    free = Q(webhook__lease_until=None) | Q(webhook__lease_until__lte=now)
    waiting = _due(now).filter(free).order_by().values_list("webhook", flat=True).distinct()
    return sum(ring(webhook_id) for webhook_id in waiting[:100])


def keep_house(*, now: datetime) -> None:
    """Drop old deliveries, and switch off webhooks whose backlog has grown too large."""
    done = Delivery.objects.exclude(state=Delivery.State.PENDING).filter(created_at__lt=now - KEEP)
    drop(done, most=PRUNED_AT_ONCE)
    for webhook in Webhook.objects.filter(is_active=True):
        pending = webhook.deliveries.filter(state=Delivery.State.PENDING).order_by()
        if pending.values("pk")[MOST_PENDING : MOST_PENDING + 1].exists():
            disable(webhook, f"More than {MOST_PENDING:,} messages were waiting.")
    # What a worker that died in the middle has left, and what an event wrote at that instant.
    left = Delivery.objects.filter(state=Delivery.State.PENDING, webhook__is_active=False)
    for webhook_id in left.order_by().values_list("webhook", flat=True).distinct():
        cancel_pending(webhook_id)


@transaction.atomic
def disable(webhook: Webhook, reason: str) -> None:
    """Switch a webhook off by itself; leads are told why, and what waited is cancelled."""
    switched = Webhook.objects.filter(pk=webhook.pk, is_active=True).update(
        is_active=False, disabled_reason=reason, rests_until=None
    )
    if not switched:
        return
    events.record(
        kind="webhook.disabled",
        project_id=webhook.project_id,
        actor_id=None,
        payload={"webhook": webhook.pk, "reason": reason},
    )
    transaction.on_commit(partial(cancel_pending, webhook.pk), robust=True)


def cancel_pending(webhook_id: int) -> None:
    """Give up what waits for a webhook that is off, some at a time; each can be sent again."""
    waiting = Delivery.objects.filter(
        webhook=webhook_id, webhook__is_active=False, state=Delivery.State.PENDING
    )
    while some := list(waiting.order_by().values_list("pk", flat=True)[:ROWS_AT_ONCE]):
        Delivery.objects.filter(pk__in=some, state=Delivery.State.PENDING).update(
            state=Delivery.State.CANCELLED, next_try_at=None
        )


def drop(deliveries: QuerySet[Delivery], *, most: float = math.inf) -> None:
    """Delete deliveries with their attempts, in transactions that keep nobody waiting."""
    while most > 0 and (some := list(deliveries.values_list("pk", flat=True)[:DROPPED_AT_ONCE])):
        Delivery.objects.filter(pk__in=some).delete()
        most -= len(some)


def _due(now: datetime) -> QuerySet[Delivery]:
    """Return what is to be sent now; of one thing only the earliest message."""
    earlier = Delivery.objects.filter(
        webhook=OuterRef("webhook"),
        about=OuterRef("about"),
        state=Delivery.State.PENDING,
        pk__lt=OuterRef("pk"),
    )
    may = Q(webhook__rests_until=None) | Q(webhook__rests_until__lte=now)
    return Delivery.objects.filter(
        may,
        ~Exists(earlier),
        webhook__is_active=True,
        state=Delivery.State.PENDING,
        next_try_at__lte=now,
    ).order_by("pk")


def _take_turn(webhook_id: int) -> int | None:
    now = database_now()
    free = Q(lease_until=None) | Q(lease_until__lte=now)
    with transaction.atomic():
        taken = Webhook.objects.filter(free, pk=webhook_id).update(
            lease_until=now + LEASE, turn=F("turn") + 1
        )
        return Webhook.objects.get(pk=webhook_id).turn if taken else None


def _end_turn(webhook_id: int, turn: int) -> None:
    Webhook.objects.filter(pk=webhook_id, turn=turn).update(lease_until=None)


def _send_group(webhook_id: int, turn: int) -> int:
    """Send some due deliveries side by side; return how many there were."""
    webhook = Webhook.objects.filter(pk=webhook_id, turn=turn).first()
    if webhook is None:
        return 0
    try:
        secrets = _secrets(webhook)
    except signing.SecretLostError:
        disable(webhook, "The installation's key was changed. Make a new secret, then switch on.")
        return 0
    started = _start_group(webhook_id, turn)
    if not started:
        return 0
    with ThreadPoolExecutor(len(started)) as pool:
        outcomes = list(pool.map(lambda attempt: send(attempt, secrets), started))
    for attempt, outcome in zip(started, outcomes, strict=True):
        _finish(attempt, outcome)
    return len(started)


@transaction.atomic
def _start_group(webhook_id: int, turn: int) -> list[DeliveryAttempt]:
    """Write what is about to be sent, if the turn is still ours."""
    now = database_now()
    mine = Webhook.objects.filter(pk=webhook_id, turn=turn, is_active=True)
    if not mine.update(lease_until=now + LEASE):
        return []
    is_probe = mine.get().n_failures >= BREAK_AFTER
    due = _due(now).filter(webhook=webhook_id).select_for_update(of=("self",))
    started = []
    for delivery in due.select_related("webhook")[: 1 if is_probe else AT_ONCE]:
        delivery.n_tries += 1
        delivery.save(update_fields=["n_tries"])
        attempt = DeliveryAttempt(
            delivery=delivery,
            number=delivery.attempts.count() + 1,
            at=now,
            code=UNFINISHED,
            reason="Being sent, or the worker stopped while it was sending.",
        )
        attempt.save(force_insert=True)
        started.append(attempt)
    return started


def _secrets(webhook: Webhook) -> list[str]:
    secrets = [signing.checked_secret(webhook.nonce, webhook.secret_hash)]
    if webhook.former_until and webhook.former_until > database_now():
        secrets.append(signing.secret_of(webhook.former_nonce))
    return secrets


def send(attempt: DeliveryAttempt, secrets: list[str]) -> Outcome:
    """Send a message once and say how it went; touches no database."""
    delivery = attempt.delivery
    body = json.dumps(delivery.body, separators=(",", ":"), sort_keys=True).encode()
    headers = signing.headers(delivery.message_id, int(attempt.at.timestamp()), body, secrets)
    began = time.monotonic()
    try:
        answer = outbound.post(
            delivery.webhook.url,
            body,
            headers={"Content-Type": "application/json", **headers},
            limits=LIMITS,
        )
    except outbound.RefusedError as error:
        # Without a time: it would tell a closed port from a filtered one.
        return Outcome(code=error.code, reason=error.reason)
    return _judged(answer, round((time.monotonic() - began) * 1000), attempt.at)


def _judged(answer: outbound.Answer, milliseconds: int, at: datetime) -> Outcome:
    text = answer.body[:ANSWER_KEPT].decode(errors="replace").replace("\x00", "�")
    named = {name.lower(): value for name, value in answer.headers.items()}
    is_good = 200 <= answer.status < 300
    return Outcome(
        status=answer.status,
        milliseconds=milliseconds,
        code="" if is_good else "http-status",
        reason="" if is_good else f"The receiver answered {answer.status}.",
        answer=text,
        retry_after=_retry_after(named.get("retry-after", ""), at),
    )


def _retry_after(text: str, at: datetime) -> timedelta:
    """Return what a Retry-After header asks for, at most a day; nothing if it makes no sense."""
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), LONGEST_WAIT)
    try:
        asked = parsedate_to_datetime(text) - at
    except (TypeError, ValueError, OverflowError):
        return timedelta(0)
    return max(timedelta(0), min(asked, LONGEST_WAIT))


@transaction.atomic
def _finish(attempt: DeliveryAttempt, outcome: Outcome) -> None:
    """Write how an attempt went, and what that means for the delivery and the webhook."""
    now = database_now()
    delivery = attempt.delivery
    # The webhook's row first, as everybody who changes both does; inserts need not wait for it.
    webhook = Webhook.objects.select_for_update(no_key=True).filter(pk=delivery.webhook_id).first()
    if webhook is None:
        return
    DeliveryAttempt.objects.filter(pk=attempt.pk).update(
        status=outcome.status,
        milliseconds=outcome.milliseconds,
        code=outcome.code,
        reason=outcome.reason,
        answer=outcome.answer,
    )
    if outcome.succeeded:
        _note_success(webhook, delivery)
    else:
        _note_failure(webhook, delivery, outcome, now)


def _note_success(webhook: Webhook, delivery: Delivery) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(state=Delivery.State.DELIVERED, next_try_at=None)
    if webhook.n_failures:
        Webhook.objects.filter(pk=webhook.pk).update(
            n_failures=0, failing_since=None, rests_until=None
        )


def _note_failure(webhook: Webhook, delivery: Delivery, outcome: Outcome, now: datetime) -> None:
    # Cancelled or delivered meanwhile: then it stays so.
    pending = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.PENDING)
    wait = max(_wait(delivery.n_tries), outcome.retry_after)
    if delivery.n_tries > len(WAITS):
        pending.update(state=Delivery.State.GIVEN_UP, next_try_at=None)
    else:
        pending.update(next_try_at=now + wait)
    webhook.n_failures += 1
    webhook.failing_since = webhook.failing_since or now
    rest = REST if webhook.n_failures >= BREAK_AFTER else timedelta(0)
    if rest := max(rest, outcome.retry_after):
        webhook.rests_until = now + rest
    webhook.save(update_fields=["n_failures", "failing_since", "rests_until"])
    if outcome.status == 410:
        disable(webhook, "The receiver answered 410: it wants no more messages.")
    elif webhook.failing_since < now - DISABLE_AFTER:
        disable(webhook, f"Nothing could be delivered for {DISABLE_AFTER.days} days.")


def _wait(n_tries: int) -> timedelta:
    """Return how long after a try the next one follows, a little later each time by chance."""
    # S311: it only keeps many receivers from being asked in the same second.
    return WAITS[min(n_tries, len(WAITS)) - 1] * (1 + random.uniform(0, JITTER))  # noqa: S311
