"""What people say of images: submit, undo, edit, and what a deleted class gives back."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, IntegerField
from django.db.models.functions import Greatest

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling import services as labeling
from annotator.labeling.hooks import Recalled, Withdrawn
from annotator.labeling.models import Annotation, Image, Project
from annotator.prepared import Given, Prepared, PreparedUpdate, insert
from workqueue.models import Lease, QueueState, RankedImage, Round, Submission
from workqueue.requests import request_round_if_due, state_of
from workqueue.services.leases import end_leases_of, finish, grant, has_room_beside, lease_of
from workqueue.services.transactions import retried_on_collision

UNDO_DEPTH = 20
# Why the image of a label outside the queue was served: it was not.
DIRECT = {"kind": "direct"}
AT_ONCE = 500

_KNOWN = Prepared(lambda: Submission.objects.filter(user=Given("user"), key=Given("key")))
_LOCKED = Prepared(
    lambda: (
        Image.objects.select_for_update(of=("self",), no_key=True)
        .select_related("project")
        .filter(pk=Given("image"))
    )
)
_SET_DONE = PreparedUpdate(
    lambda: RankedImage.objects.filter(
        ranking__in=QueueState.objects.filter(project=Given("project")).values("ranking"),
        image_id=Given("image"),
    ),
    is_done=Given("done"),
)
_ADD_LABELS = PreparedUpdate(
    lambda: QueueState.objects.filter(project=Given("project")),
    labels_since_round=Greatest(F("labels_since_round") + Given("change", IntegerField()), 0),
)


class KeyReusedError(Exception):
    """The idempotency key was used for another request."""


class ImageGoneError(Exception):
    """The image was deleted, or its project archived."""


class UndoRefusedError(Exception):
    """The label cannot be taken back; the text says why."""


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
    was_removed: bool = False,
) -> Submitted:
    """Keep a label, exactly once per key, and start a round when the batch is complete.

    A label that comes after its lease ran out is kept as well, or after its image, class or project
    was deleted, or after the person was removed (``was_removed``); the answer's outcome says so.

    Raises:
        KeyReusedError: the key stands for another request.
        LeaseUnknownError: no such lease of this person in this project.
        InvalidClassesError: the classes do not fit the project.
    """
    request_hash = _hash({"lease": lease_token, "class_ids": list(class_ids)})
    known = _KNOWN.first(user=user, key=key)
    if known:
        if known.request_hash != request_hash:
            raise KeyReusedError("This Idempotency-Key was used for another label.")
        return Submitted(known.answer, replayed=True)
    lease = lease_of(user, project, lease_token)
    classes = labeling.check_classes(project, class_ids)
    image = _locked(lease.image_id)
    recorded = labeling.record_annotation(
        image=image,
        author=user,
        classes=classes,
        source=source,
        is_late=_is_late(lease, image, now),
        was_removed=was_removed,
        served=lease.served,
        seconds=seconds,
    )
    annotation = recorded.annotation
    if annotation.is_current:
        if lease.state != Lease.State.LIVE:
            # Another tab of the person may hold the image by now, or have labelled it.
            end_leases_of(image, user)
        finish(lease, Lease.State.SUBMITTED)
    elif lease.state == Lease.State.LIVE:
        finish(lease, Lease.State.RELEASED)
    answer = {
        "annotation": annotation.pk,
        "image": image.pk,
        "class_ids": list(class_ids),
        "action": annotation.action,
        "outcome": annotation.outcome,
        "created_at": annotation.created_at.isoformat(),
    }
    insert(
        Submission(
            user=user, key=key, request_hash=request_hash, annotation=annotation, answer=answer
        )
    )
    _tell(project, annotation, class_ids)
    _follow(project, image, recorded)
    return Submitted(answer, replayed=False)


@retried_on_collision
def label_image(
    *,
    user: User,
    project: Project,
    image_id: int,
    class_ids: Sequence[int],
    now: datetime,
    seconds: float | None = None,
) -> Annotation:
    """Keep what a person says of an image the queue did not serve to them.

    It is a label like any other: what the person holds of the image is answered with it, their
    former label is replaced, and who else has the image keeps it, as after a late label.

    Raises:
        ImageGoneError: the image was deleted, or its project archived.
        InvalidClassesError: the classes do not fit the project, or one was deleted.
    """
    lease = (
        Lease.objects.select_for_update()
        .filter(image=image_id, user=user, state__in=[Lease.State.LIVE, Lease.State.SUBMITTED])
        .first()
    )
    classes = labeling.check_classes(project, class_ids)
    labeling.refuse_deleted(classes)
    image = _locked(image_id)
    if image.deleted_at or image.project.deleted_at:
        raise ImageGoneError("The image was deleted meanwhile.")
    if lease is None:
        is_late = not has_room_beside(image, user.pk)
    else:
        is_late = lease.state == Lease.State.LIVE and _is_late(lease, image, now)
    recorded = labeling.record_annotation(
        image=image,
        author=user,
        classes=classes,
        is_late=is_late,
        served=lease.served if lease else DIRECT,
        seconds=seconds,
    )
    # Who has labelled an image has a lease that says so: the database gives them no other.
    finish(lease or _lease_of_direct(image, user, now), Lease.State.SUBMITTED)
    _tell(project, recorded.annotation, class_ids)
    _follow(project, image, recorded)
    return recorded.annotation


def _lease_of_direct(image: Image, user: User, now: datetime) -> Lease:
    return Lease.objects.create(
        image=image,
        project_id=image.project_id,
        user=user,
        state=Lease.State.SUBMITTED,
        served=DIRECT,
        granted_at=now,
        expires_at=now,
    )


def _locked(image_id: int) -> Image:
    image = _LOCKED.first(image=image_id)
    if image is None:
        raise Image.DoesNotExist
    return image


def _follow(project: Project, image: Image, recorded: labeling.Recorded) -> None:
    """Let the counters and the ranking follow a label, and start a round when one is due.

    It comes last: the counters' rows are everybody's.
    """
    labeling.count_label(image, recorded)
    annotation = recorded.annotation
    is_new = annotation.is_current and annotation.action == Annotation.Action.LABEL
    counted = is_new and annotation.outcome != Annotation.Outcome.SECOND
    # As long as an image lacks labels it keeps its place; one of a deleted class answers nothing.
    _set_done(project, image.pk, done=image.status == Image.Status.LABELLED)
    _count_label(project, +1 if counted else 0)
    request_round_if_due(project=project)


def _tell(project: Project, annotation: Annotation, class_ids: Sequence[int]) -> None:
    events.record(
        kind="annotation.created",
        project_id=project.pk,
        actor_id=annotation.author_id,
        payload={
            "annotation": annotation.pk,
            "image": annotation.image_id,
            "class_ids": list(class_ids),
            "action": annotation.action,
            "outcome": annotation.outcome,
        },
    )


def _is_late(lease: Lease, image: Image, now: datetime) -> bool:
    """Return whether the person's time was over, or others have the image in their place by now.

    A lease the person's own tab has just given back (to follow a new ranking) is not late.
    """
    if lease.expires_at <= now:
        return True
    return lease.state != Lease.State.LIVE and not has_room_beside(image, lease.user_id)


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()


@retried_on_collision
def undo(
    *, user: User, project: Project, annotation_id: int, now: datetime, client: str = ""
) -> Lease:
    """Take back one of the person's last labels and give them the image again.

    Raises:
        UndoRefusedError: it is not among their last labels, was replaced meanwhile, or others
            have the image in their place.
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
    is_open = image.status == Image.Status.OPEN
    _set_done(project, image.pk, done=not is_open)
    _count_label(project, -1 if is_open else 0)
    if image.deleted_at is not None:
        raise UndoRefusedError("The image was deleted meanwhile; its label stays in the history.")
    live = Lease.objects.filter(image=image, state=Lease.State.LIVE)
    live.filter(expires_at__lte=now).update(state=Lease.State.EXPIRED)
    if not has_room_beside(image, user.pk):
        raise UndoRefusedError("Somebody else has this image on the screen now; your label stays.")
    # Another tab of the same person may hold it.
    end_leases_of(image, user)
    return grant(
        image=image, project=project, user=user, client=client, served=annotation.served, now=now
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


def take_back(project_id: int, withdrawn: Sequence[Withdrawn]) -> None:
    """Serve images again that lost labels with a class, at their old places in the ranking.

    Called in each transaction that withdraws some. Labels the last round has learned from do not
    count towards the next one, so only younger ones are taken off the counter.
    """
    state = state_of(Project.objects.get(pk=project_id))
    learned = [Round.State.RUNNING, Round.State.DONE]
    last = Round.objects.filter(project=project_id, state__in=learned).order_by("-number").first()
    counted = Annotation.objects.filter(
        action__in=[Annotation.Action.LABEL, Annotation.Action.RESTORE],
        outcome__in=[Annotation.Outcome.ACCEPTED, Annotation.Outcome.LATE],
    )
    if last and last.started_at:
        counted = counted.filter(created_at__gte=last.started_at)
    n_counted = 0
    for start in range(0, len(withdrawn), AT_ONCE):
        some = {lost.image_id: lost for lost in withdrawn[start : start + AT_ONCE]}
        _end_submitted(some)
        young: dict[int, set[int]] = defaultdict(set)
        for image_id, author_id in counted.filter(image__in=some).values_list("image", "author"):
            young[image_id].add(author_id)
        n_counted += sum(min(some[pk].n_counted, len(authors)) for pk, authors in young.items())
        lacking = [lost.image_id for lost in some.values() if lost.is_short]
        RankedImage.objects.filter(ranking=state.ranking_id, image__in=lacking).update(
            is_done=False
        )
    QueueState.objects.filter(pk=state.pk).update(
        labels_since_round=Greatest(F("labels_since_round") - n_counted, 0)
    )


def count_again(project_id: int, recalled: Sequence[Recalled]) -> None:
    """Let the queue follow labels that count again; the next round learns from them.

    Images with labels enough are out of it, and nobody holds an image they have labelled. Called in
    the transaction that brings the labels back.
    """
    project = Project.objects.get(pk=project_id)
    state = state_of(project)
    _count_label(project, sum(back.n_counted for back in recalled))
    for is_done in (True, False):
        some = [back.image_id for back in recalled if back.has_enough == is_done]
        if some and state.ranking_id:
            RankedImage.objects.filter(ranking=state.ranking_id, image__in=some).update(
                is_done=is_done
            )
    _answered_again({back.image_id: back for back in recalled})
    request_round_if_due(project=project)


def _answered_again(recalled: Mapping[int, Recalled]) -> None:
    """Let the last lease of each whose label stands again be the answered one, as it was."""
    leases = Lease.objects.filter(image__in=recalled).order_by("pk")
    theirs = [
        (pk, (image_id, user_id), state)
        for pk, image_id, user_id, state in leases.values_list("pk", "image", "user", "state")
        if user_id in recalled[image_id].authors
    ]
    held = [pk for pk, _, state in theirs if state == Lease.State.LIVE]
    over = {whose: pk for pk, whose, state in theirs if state != Lease.State.LIVE}
    Lease.objects.filter(pk__in=held).update(state=Lease.State.RELEASED)
    Lease.objects.filter(pk__in=over.values()).update(state=Lease.State.SUBMITTED)


def _end_submitted(withdrawn: Mapping[int, Withdrawn]) -> None:
    """Let those whose labels do not stand any more have the images again."""
    submitted = Lease.objects.filter(image__in=withdrawn, state=Lease.State.SUBMITTED)
    over = [
        pk
        for pk, image_id, user_id in submitted.values_list("pk", "image", "user")
        if user_id in withdrawn[image_id].authors
    ]
    Lease.objects.filter(pk__in=over).update(state=Lease.State.RELEASED)


def _set_done(project: Project, image_id: int, *, done: bool) -> None:
    _SET_DONE.run(project=project, image=image_id, done=done)


def _count_label(project: Project, change: int) -> None:
    if change and not _ADD_LABELS.run(project=project, change=change):
        state_of(project)
        _ADD_LABELS.run(project=project, change=change)
