"""Who holds which image: claim, prolong, release."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling.models import Image, Project
from workqueue import stopping
from workqueue.models import Lease, QueueSettings, QueueState, RankedImage, Ranking, Skip
from workqueue.requests import settings_of, state_of
from workqueue.services.transactions import retried_on_collision

MAX_CLAIM = 20


class LeaseUnknownError(Exception):
    """There is no such lease of this person."""


class LeaseLostError(Exception):
    """The lease has run out or was taken back; a submit with it is still accepted."""


@dataclass(frozen=True)
class Claimed:
    """What a claim gave."""

    leases: list[Lease] = field(default_factory=list)


@retried_on_collision
def claim(
    *,
    user: User,
    project: Project,
    n: int,
    now: datetime,
    client: str = "",
    fresh: bool = False,
    keep: Collection[str] = (),
) -> Claimed:
    """Give the person the ``n`` best free images, the ones this client holds already first.

    Args:
        user: who labels.
        project: where.
        n: how many leases the client wants to hold, at most ``MAX_CLAIM``.
        now: the time the leases start.
        client: the browser tab or program; each has leases of its own.
        fresh: give back what the client holds (but for ``keep``) and take the best again: used
            after a new ranking.
        keep: lease tokens that ``fresh`` leaves alone.
    """
    settings = settings_of(project)
    until = now + timedelta(minutes=settings.lease_minutes)
    live = Lease.objects.filter(project=project, state=Lease.State.LIVE)
    live.filter(expires_at__lte=now).update(state=Lease.State.EXPIRED)
    mine = live.filter(user=user, client=client)
    # What was labelled or deleted meanwhile need not be shown any more.
    mine.exclude(image__status=Image.Status.OPEN, image__deleted_at=None).update(
        state=Lease.State.RELEASED
    )
    if fresh:
        mine.exclude(token__in=list(keep)).update(state=Lease.State.RELEASED)
    mine.update(expires_at=until)
    held = list(mine.select_related("image").order_by("pk"))
    wanted = min(n, MAX_CLAIM) - len(held)
    if wanted > 0:
        state = state_of(project)
        is_closed = settings.stop_is_hard and stopping.advice(project, settings).closes_queue
        free = [] if is_closed else _best_free(project, settings, state, user, wanted)
        granted = [
            Lease(
                image=image,
                project=project,
                user=user,
                client=client,
                served=served,
                granted_at=now,
                expires_at=until,
            )
            for image, served in free
        ]
        held += Lease.objects.bulk_create(granted)
    return Claimed(held)


def _best_free(
    project: Project, settings: QueueSettings, state: QueueState, user: User, n: int
) -> list[tuple[Image, dict[str, Any]]]:
    found = _best_ranked(state.ranking, user, n) if state.ranking else []
    if len(found) < n:
        taken = [image.pk for image, _ in found]
        order = "pk" if settings.heuristic == QueueSettings.Heuristic.NONE else "random_key"
        rest = _skip_locked(
            Image.objects.filter(project=project, status=Image.Status.OPEN, deleted_at=None)
            .exclude(pk__in=taken)
            .filter(~_leased("pk"), ~_skipped("pk", user))
            .order_by(order)
        )
        found += [(image, {"kind": "unranked"}) for image in rest[: n - len(found)]]
    return found


def _best_ranked(ranking: Ranking, user: User, n: int) -> list[tuple[Image, dict[str, Any]]]:
    free = _skip_locked(
        RankedImage.objects.filter(
            ranking=ranking,
            is_done=False,
            image__status=Image.Status.OPEN,
            image__deleted_at=None,
        )
        .filter(~_leased("image"), ~_skipped("image", user))
        .select_related("image")
        .order_by("position"),
        image="image",
    )
    return [(ranked.image, why_served(ranking, ranked)) for ranked in free[:n]]


def _leased(image: str) -> Exists:
    return Exists(Lease.objects.filter(image=OuterRef(image), state=Lease.State.LIVE))


def _skipped(image: str, user: User) -> Exists:
    return Exists(Skip.objects.filter(image=OuterRef(image), user=user))


def _skip_locked(rows: QuerySet[Any], image: str = "self") -> QuerySet[Any]:
    # On SQLite the IMMEDIATE transaction already lets one claim in at a time. Ranked or not, the
    # lock is the image's: two claims that lease the same images in another order would deadlock.
    # No key: a ranking that is being written refers to the images, and must not hide them.
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True, no_key=True, of=(image,))
    return rows


def why_served(ranking: Ranking, ranked: RankedImage) -> dict[str, Any]:
    """Return what is remembered of why an image was served, with the lease and the label."""
    model = ranking.model_version
    return {
        "kind": ranking.kind,
        "ranking": ranking.number,
        "heuristic": ranking.heuristic,
        "score": ranked.score,
        "position": ranked.position,
        "n_positions": ranking.n_positions,
        "n_candidates": ranking.n_candidates,
        "n_pool": ranking.n_pool,
        "explored": ranked.explored,
        "draw_probability": ranked.draw_probability,
        "top_classes": ranked.top_classes,
        "model": model.number if model else None,
        "model_created_at": model.created_at.isoformat() if model else None,
        "model_n_labels": model.n_labels if model else None,
        "external_model": ranking.external_model,
    }


def lease_of(user: User, project: Project, token: str) -> Lease:
    """Return a lease of the person, locked.

    Raises:
        LeaseUnknownError: there is no such lease of this person in this project.
    """
    lease = (
        Lease.objects.select_for_update().filter(token=token, user=user, project=project).first()
    )
    if lease is None:
        raise LeaseUnknownError("There is no such lease of yours in this project.")
    return lease


def finish(lease: Lease, final: str) -> None:
    """End a lease."""
    # Whoever else holds the image (after this lease had run out) keeps the lease: a second opinion
    # is kept too.
    Lease.objects.filter(pk=lease.pk).update(state=final)


def grant(
    *,
    image: Image,
    project: Project,
    user: User,
    client: str,
    served: dict[str, Any],
    now: datetime,
) -> Lease:
    """Give one person a certain image, in a slot nobody has."""
    return Lease.objects.create(
        image=image,
        project=project,
        user=user,
        client=client,
        slot=_free_slot(image),
        served=served,
        granted_at=now,
        expires_at=now + timedelta(minutes=settings_of(project).lease_minutes),
    )


def _free_slot(image: Image) -> int:
    taken = set(
        Lease.objects.filter(image=image, state=Lease.State.LIVE).values_list("slot", flat=True)
    )
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


@transaction.atomic
def heartbeat(*, user: User, project: Project, lease_token: str, now: datetime) -> datetime:
    """Prolong a lease and return its new end.

    Raises:
        LeaseUnknownError: no such lease of this person.
        LeaseLostError: it is over; what was chosen can still be submitted.
    """
    lease = lease_of(user, project, lease_token)
    if lease.state != Lease.State.LIVE or lease.expires_at <= now:
        raise LeaseLostError(
            "The time for this image ran out and it may be with somebody else now. "
            "Your label will be kept all the same."
        )
    until = now + timedelta(minutes=settings_of(project).lease_minutes)
    Lease.objects.filter(pk=lease.pk).update(expires_at=until)
    return until


@transaction.atomic
def release(*, user: User, project: Project, lease_token: str) -> None:
    """Give an image back to the queue, at its old position.

    Raises:
        LeaseUnknownError: no such lease of this person.
    """
    lease = lease_of(user, project, lease_token)
    if lease.state == Lease.State.LIVE:
        Lease.objects.filter(pk=lease.pk).update(state=Lease.State.RELEASED)


@transaction.atomic
def release_person(*, project: Project, user_id: int, actor: User) -> int:
    """Give back all images one person holds, for a lead; return how many.

    What the person has on the screen can still be submitted and is kept.
    """
    n = end_leases(project.pk, user_id)
    if n:
        events.record(
            kind="leases.released",
            project_id=project.pk,
            actor_id=actor.pk,
            payload={"user": user_id, "n": n},
        )
    return n


def end_leases(project_id: int, user_id: int) -> int:
    """End all leases of a person in a project, in the caller's transaction; return how many."""
    held = Lease.objects.filter(project=project_id, user=user_id, state=Lease.State.LIVE)
    return held.update(state=Lease.State.RELEASED)
