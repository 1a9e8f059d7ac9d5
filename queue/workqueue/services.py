"""Every write of the work queue: claim, submit, undo, skip, release, settings, rounds.

Each function is one short transaction. The constraints of the database, not this code, make a
double lease or a doubled label impossible.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Greatest

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image, Project
from workqueue import stopping
from workqueue.models import (
    Lease,
    QueueSettings,
    QueueState,
    RankedImage,
    Ranking,
    Round,
    Skip,
    Submission,
)
from workqueue.requests import request_round_if_due, settings_of, state_of

UNDO_DEPTH = 20
MAX_CLAIM = 20
AT_ONCE = 500

Params = ParamSpec("Params")
Answer = TypeVar("Answer")


class LeaseUnknownError(Exception):
    """There is no such lease of this person."""


class LeaseLostError(Exception):
    """The lease has run out or was taken back; a submit with it is still accepted."""


class KeyReusedError(Exception):
    """The idempotency key was used for another request."""


class UndoRefusedError(Exception):
    """The label cannot be taken back; the text says why."""


class UnskipRefusedError(Exception):
    """The skip cannot be taken back; the text says why."""


class SettingsChangedError(Exception):
    """Somebody changed the settings meanwhile."""


@dataclass(frozen=True)
class Claimed:
    """What a claim gave."""

    leases: list[Lease] = field(default_factory=list)


def retried_on_collision(function: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """Run the transaction again when another one was faster at a unique constraint."""

    @wraps(function)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> Answer:
        for _ in range(4):
            try:
                with transaction.atomic():
                    return function(*args, **kwargs)
            except IntegrityError:
                continue
        with transaction.atomic():
            return function(*args, **kwargs)

    return run


# --- Claim ------------------------------------------------------------------------------------


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
        .order_by("position")
    )
    return [(ranked.image, why_served(ranking, ranked)) for ranked in free[:n]]


def _leased(image: str) -> Exists:
    return Exists(Lease.objects.filter(image=OuterRef(image), state=Lease.State.LIVE))


def _skipped(image: str, user: User) -> Exists:
    return Exists(Skip.objects.filter(image=OuterRef(image), user=user))


def _skip_locked(rows: QuerySet[Any]) -> QuerySet[Any]:
    # On SQLite the IMMEDIATE transaction already lets one claim in at a time.
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True, of=("self",))
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
    }


# --- Submit, undo, skip, release --------------------------------------------------------------


@dataclass(frozen=True)
class Submitted:
    """The answer to a submit; ``replayed`` when the key had been answered before."""

    answer: dict[str, Any]
    replayed: bool


@retried_on_collision
def submit(
    *,
    user: User,
    project: Project,
    key: str,
    lease_token: str,
    class_ids: Sequence[int],
    now: datetime,
    seconds: float | None = None,
    source: str = Annotation.Source.PERSON,
) -> Submitted:
    """Keep a label, exactly once per key, and start a round when the batch is complete.

    A label that comes after its lease ran out is kept as well; the answer's outcome says so.

    Raises:
        KeyReusedError: the key stands for another request.
        LeaseUnknownError: no such lease of this person in this project.
        InvalidClassesError: the classes do not fit the project.
    """
    request_hash = _hash({"lease": lease_token, "class_ids": list(class_ids)})
    known = Submission.objects.filter(user=user, key=key).first()
    if known:
        if known.request_hash != request_hash:
            raise KeyReusedError("This Idempotency-Key was used for another label.")
        return Submitted(known.answer, replayed=True)
    lease = _lease(user, project, lease_token)
    labeling.check_classes(project, class_ids)
    image = Image.objects.select_for_update().select_related("project").get(pk=lease.image_id)
    is_new = image.status == Image.Status.OPEN
    annotation = labeling.record_annotation(
        image=image,
        author=user,
        class_ids=class_ids,
        source=source,
        is_late=_is_late(lease, now),
        served=lease.served,
        seconds=seconds,
    )
    counted = is_new and image.status == Image.Status.LABELLED
    state = _count_label(project, +1 if counted else 0)
    _finish(lease, Lease.State.SUBMITTED)
    # A label of a deleted class answers nothing: the image keeps its place.
    _set_done(state, image.pk, done=image.status == Image.Status.LABELLED)
    answer = {
        "annotation": annotation.pk,
        "image": image.pk,
        "class_ids": list(class_ids),
        "action": annotation.action,
        "outcome": annotation.outcome,
        "created_at": annotation.created_at.isoformat(),
    }
    Submission.objects.create(
        user=user, key=key, request_hash=request_hash, annotation=annotation, answer=answer
    )
    events.record(
        kind="annotation.created",
        project_id=project.pk,
        actor_id=user.pk,
        payload={
            key: answer[key] for key in ("annotation", "image", "class_ids", "action", "outcome")
        },
    )
    request_round_if_due(project=project)
    return Submitted(answer, replayed=False)


def _is_late(lease: Lease, now: datetime) -> bool:
    """Return whether the person's time was over, or somebody else has the image by now.

    A lease the person's own tab has just given back (to follow a new ranking) is not late.
    """
    others = Lease.objects.filter(image=lease.image_id, state=Lease.State.LIVE)
    return lease.expires_at <= now or others.exclude(user=lease.user_id).exists()


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()


def _lease(user: User, project: Project, token: str) -> Lease:
    lease = (
        Lease.objects.select_for_update().filter(token=token, user=user, project=project).first()
    )
    if lease is None:
        raise LeaseUnknownError("There is no such lease of yours in this project.")
    return lease


def _finish(lease: Lease, final: str) -> None:
    # Whoever else holds the image (after this lease had run out) keeps the lease: a second opinion
    # is kept too.
    Lease.objects.filter(pk=lease.pk).update(state=final)


def _set_done(state: QueueState, image_id: int, *, done: bool) -> None:
    if state.ranking_id:
        RankedImage.objects.filter(ranking_id=state.ranking_id, image_id=image_id).update(
            is_done=done
        )


def _count_label(project: Project, change: int) -> QueueState:
    state = state_of(project)
    if change:
        QueueState.objects.filter(pk=state.pk).update(
            labels_since_round=Greatest(F("labels_since_round") + change, 0)
        )
    return state


@retried_on_collision
def undo(
    *, user: User, project: Project, annotation_id: int, now: datetime, client: str = ""
) -> Lease:
    """Take back one of the person's last labels and give them the image again.

    Raises:
        UndoRefusedError: it is not among their last labels, or was replaced meanwhile.
    """
    repeated = _lease_of_undone(user, project, annotation_id, now)
    if repeated:
        return repeated
    last = list(
        Annotation.objects.filter(author=user, image__project=project, is_current=True)
        .order_by("-pk")
        .values_list("pk", flat=True)[:UNDO_DEPTH]
    )
    if annotation_id not in last:
        raise UndoRefusedError(
            f"Only your last {UNDO_DEPTH} labels can be undone, each of them once."
        )
    annotation = Annotation.objects.get(pk=annotation_id)
    image = labeling.withdraw_annotation(annotation=annotation, actor=user)
    reopened = image.status == Image.Status.OPEN
    state = _count_label(project, -1 if reopened else 0)
    _set_done(state, image.pk, done=False)
    if image.deleted_at is not None:
        raise UndoRefusedError("The image was deleted meanwhile; its label stays in the history.")
    Lease.objects.filter(image=image, state=Lease.State.LIVE, expires_at__lte=now).update(
        state=Lease.State.EXPIRED
    )
    settings = settings_of(project)
    return Lease.objects.create(
        image=image,
        project=project,
        user=user,
        client=client,
        slot=_free_slot(image),
        served=annotation.served,
        granted_at=now,
        expires_at=now + timedelta(minutes=settings.lease_minutes),
    )


def take_back(project_id: int, image_ids: Sequence[int]) -> None:
    """Serve images again whose only class was deleted, at their old places in the ranking.

    Called in the transaction that reopens them. Labels the last round has learned from do not count
    towards the next one, so only younger ones are taken off the counter.
    """
    state = state_of(Project.objects.get(pk=project_id))
    learned = [Round.State.RUNNING, Round.State.DONE]
    last = Round.objects.filter(project=project_id, state__in=learned).order_by("-number").first()
    counted = Annotation.objects.filter(
        action=Annotation.Action.LABEL,
        outcome__in=[Annotation.Outcome.ACCEPTED, Annotation.Outcome.LATE],
    )
    if last and last.started_at:
        counted = counted.filter(created_at__gte=last.started_at)
    n_counted = 0
    for start in range(0, len(image_ids), AT_ONCE):
        some = image_ids[start : start + AT_ONCE]
        n_counted += counted.filter(image__in=some).values("image").distinct().count()
        RankedImage.objects.filter(ranking=state.ranking_id, image__in=some).update(is_done=False)
    QueueState.objects.filter(pk=state.pk).update(
        labels_since_round=Greatest(F("labels_since_round") - n_counted, 0)
    )


def _lease_of_undone(
    user: User, project: Project, annotation_id: int, now: datetime
) -> Lease | None:
    """Return what an undo has given already: its answer may have been lost on the way."""
    undone = Annotation.objects.filter(
        pk=annotation_id,
        author=user,
        image__project=project,
        replaced_by__action=Annotation.Action.WITHDRAW,
    ).first()
    if undone is None:
        return None
    live = Lease.objects.filter(state=Lease.State.LIVE, expires_at__gt=now)
    return live.filter(image=undone.image_id, user=user).first()


def _free_slot(image: Image) -> int:
    taken = set(
        Lease.objects.filter(image=image, state=Lease.State.LIVE).values_list("slot", flat=True)
    )
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


@retried_on_collision
def skip(*, user: User, project: Project, lease_token: str, reason: str, comment: str = "") -> None:
    """Pass an image on to somebody else; it does not come back to this person by itself.

    Raises:
        LeaseUnknownError: no such lease of this person.
    """
    lease = _lease(user, project, lease_token)
    Skip.objects.update_or_create(
        image_id=lease.image_id, user=user, defaults={"reason": reason, "comment": comment}
    )
    if lease.state == Lease.State.LIVE:
        _finish(lease, Lease.State.SKIPPED)
    events.record(
        kind="image.skipped",
        project_id=project.pk,
        actor_id=user.pk,
        payload={"image": lease.image_id, "reason": reason, "comment": comment},
    )


@transaction.atomic
def unskip(*, user: User, project: Project) -> int:
    """Take all of the person's skipped images back into their queue; return how many."""
    skips = Skip.objects.filter(user=user, image__project=project, image__status=Image.Status.OPEN)
    n, _ = skips.delete()
    if n:
        events.record(
            kind="skips.taken_back", project_id=project.pk, actor_id=user.pk, payload={"n": n}
        )
    return n


@retried_on_collision
def unskip_one(
    *, user: User, project: Project, lease_token: str, now: datetime, client: str = ""
) -> Lease:
    """Take one skip back, named by the lease that was skipped, and give the image again.

    Raises:
        LeaseUnknownError: no such lease of this person.
        UnskipRefusedError: it was not skipped, or the image has been labelled or deleted since.
    """
    skipped = _lease(user, project, lease_token)
    image = Image.objects.select_for_update().get(pk=skipped.image_id)
    live = Lease.objects.filter(image=image, state=Lease.State.LIVE)
    skip_row = Skip.objects.filter(user=user, image=image).first()
    if skip_row is None:
        # The answer to a first request may have been lost on the way.
        mine = live.filter(user=user, expires_at__gt=now).first()
        if mine is None:
            raise UnskipRefusedError("This image is not among those you skipped.")
        return mine
    if image.deleted_at is not None:
        raise UnskipRefusedError("The skipped image was deleted meanwhile.")
    if image.status != Image.Status.OPEN:
        raise UnskipRefusedError("Somebody else has labelled the skipped image meanwhile.")
    live.filter(expires_at__lte=now).update(state=Lease.State.EXPIRED)
    if live.exists():
        raise UnskipRefusedError("Somebody else has the skipped image on the screen now.")
    skip_row.delete()
    events.record(
        kind="skips.taken_back", project_id=project.pk, actor_id=user.pk, payload={"n": 1}
    )
    return Lease.objects.create(
        image=image,
        project=project,
        user=user,
        client=client,
        slot=_free_slot(image),
        served=skipped.served,
        granted_at=now,
        expires_at=now + timedelta(minutes=settings_of(project).lease_minutes),
    )


@transaction.atomic
def heartbeat(*, user: User, project: Project, lease_token: str, now: datetime) -> datetime:
    """Prolong a lease and return its new end.

    Raises:
        LeaseUnknownError: no such lease of this person.
        LeaseLostError: it is over; what was chosen can still be submitted.
    """
    lease = _lease(user, project, lease_token)
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
    lease = _lease(user, project, lease_token)
    if lease.state == Lease.State.LIVE:
        Lease.objects.filter(pk=lease.pk).update(state=Lease.State.RELEASED)


@transaction.atomic
def edit(*, annotation: Annotation, actor: User, class_ids: Sequence[int]) -> Annotation:
    """Change a label; it counts towards the next round like a new one.

    Raises:
        InvalidClassesError: the classes do not fit.
        StaleAnnotationError: somebody replaced or withdrew it first.
    """
    edited = labeling.edit_annotation(annotation=annotation, actor=actor, class_ids=class_ids)
    project = edited.image.project
    _count_label(project, +1)
    request_round_if_due(project=project)
    return edited


# --- Settings ----------------------------------------------------------------------


@transaction.atomic
def change_settings(
    *, project: Project, actor: User, changes: dict[str, Any], version: int | None = None
) -> QueueSettings:
    """Change the queue settings; they are used from the next ranking on.

    Args:
        project: whose queue.
        actor: the lead.
        changes: field -> new value, already validated.
        version: the version the lead saw, or None to overwrite whatever is there.

    Raises:
        SettingsChangedError: the settings have another version by now.
    """
    settings_of(project)
    settings = QueueSettings.objects.select_for_update().get(project=project)
    if version is not None and settings.version != version:
        raise SettingsChangedError("Somebody changed the settings meanwhile. Reload and try again.")
    difference = {
        name: [getattr(settings, name), value]
        for name, value in changes.items()
        if getattr(settings, name) != value
    }
    if not difference:
        return settings
    for name, (_, value) in difference.items():
        setattr(settings, name, value)
    settings.version += 1
    settings.updated_by = actor
    settings.save()
    events.record(
        kind="queue.settings_changed",
        project_id=project.pk,
        actor_id=actor.pk,
        payload={"changes": difference, "version": settings.version},
    )
    return settings
