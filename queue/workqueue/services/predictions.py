"""What external models say of images."""

import dataclasses
from collections.abc import Sequence

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling.models import Image, LabelClass, Project
from workqueue.models import ExternalModel, Prediction, QueueState
from workqueue.requests import request_round_if_due, settings_of, state_of

# On SQLite nobody else writes meanwhile.
AT_ONCE = 1_000


class PredictionsRefusedError(Exception):
    """The predictions cannot be stored; the message says why."""


class ModelInUseError(Exception):
    """The queue is ordered by this model's predictions."""


@dataclasses.dataclass(frozen=True)
class StoredPredictions:
    """What became of posted predictions.

    Attributes:
        n_created: images this model said nothing of before.
        n_updated: images it says something else of now.
        unknown: positions of the entries whose image is not (or no longer) in the project.
    """

    n_created: int
    n_updated: int
    unknown: list[int]


def put_predictions(
    *,
    project: Project,
    actor: User,
    model: str,
    class_ids: Sequence[int],
    image_ids: Sequence[int],
    rows: Sequence[bytes],
) -> StoredPredictions:
    """Store what a model says of images; what it said of them before is replaced.

    Some at a time, so that nobody who labels waits. When it is broken off, the same again stores
    the rest.

    Args:
        project: whose images.
        actor: the lead.
        model: its name; new ones are made.
        class_ids: the class of each probability.
        image_ids: each image once.
        rows: little-endian float32 probabilities of each image, in the order of ``class_ids``.

    Raises:
        PredictionsRefusedError: a class is not one of the project's.
    """
    _refuse_unknown_classes(project, class_ids)
    external = _model_with(project, model, class_ids)
    order = [list(class_ids).index(pk) if pk in class_ids else None for pk in external.class_ids]
    n_created, unknown = 0, list[int]()
    for start in range(0, len(image_ids), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        said = [_reordered(row, order) for row in rows[part]]
        n_new, missing = _store(project, external, image_ids[part], said)
        n_created += n_new
        unknown += [start + index for index in missing]
    n_stored = len(image_ids) - len(unknown)
    if n_stored:
        _tell(project, actor, external, n_stored)
    return StoredPredictions(n_created=n_created, n_updated=n_stored - n_created, unknown=unknown)


@transaction.atomic
def _model_with(project: Project, name: str, class_ids: Sequence[int]) -> ExternalModel:
    """Return the model of this name, which knows these classes from now on."""
    external, _ = ExternalModel.objects.get_or_create(
        project=project, name=name, defaults={"class_ids": list(class_ids)}
    )
    external = ExternalModel.objects.select_for_update().get(pk=external.pk)
    external.class_ids += [pk for pk in class_ids if pk not in external.class_ids]
    external.save()
    return external


@transaction.atomic
def _store(
    project: Project, external: ExternalModel, image_ids: Sequence[int], rows: Sequence[bytes]
) -> tuple[int, list[int]]:
    """Store some predictions; return how many are new, and the places of unknown images."""
    # Whoever else posts for this model waits: both would count the same image as new.
    ExternalModel.objects.select_for_update().get(pk=external.pk)
    living = Image.objects.filter(project=project, deleted_at=None, pk__in=image_ids)
    living_ids = set(living.values_list("pk", flat=True))
    former = Prediction.objects.filter(external_model=external, image__in=image_ids)
    known = set(former.values_list("image_id", flat=True))
    Prediction.objects.bulk_create(
        (
            Prediction(external_model=external, image_id=pk, probabilities=row)
            for pk, row in zip(image_ids, rows, strict=True)
            if pk in living_ids
        ),
        update_conflicts=True,
        unique_fields=["external_model", "image"],
        update_fields=["probabilities"],
    )
    n_created = len(living_ids - known)
    ExternalModel.objects.filter(pk=external.pk).update(
        n_images=F("n_images") + n_created, updated_at=timezone.now()
    )
    return n_created, [at for at, pk in enumerate(image_ids) if pk not in living_ids]


def _refuse_unknown_classes(project: Project, class_ids: Sequence[int]) -> None:
    known = LabelClass.objects.filter(project=project, deleted_at=None).values_list("pk", flat=True)
    unknown = sorted(set(class_ids) - set(known))
    if unknown:
        raise PredictionsRefusedError(f"Class {unknown[0]} is not one of this project's.")


def _reordered(row: bytes, order: list[int | None]) -> bytes:
    if order == list(range(len(row) // 4)):
        return row
    zero = bytes(4)
    return b"".join(zero if at is None else row[4 * at : 4 * at + 4] for at in order)


@transaction.atomic
def _tell(project: Project, actor: User, external: ExternalModel, n: int) -> None:
    events.record(
        kind="predictions.stored",
        project_id=project.pk,
        actor_id=actor.pk,
        payload={"model": external.name, "n": n},
    )
    if settings_of(project).predictions_from != external.name:
        return
    state = state_of(project)
    QueueState.objects.filter(pk=state.pk).update(
        predictions_since_round=F("predictions_since_round") + n
    )
    request_round_if_due(project=project)


def delete_predictions(*, project: Project, actor: User, model: ExternalModel) -> None:
    """Forget a model and all it said, some at a time.

    Raises:
        ModelInUseError: the queue is ordered by it.
    """
    _refuse_if_used(project, model)
    said = Prediction.objects.filter(external_model=model).order_by("pk")
    while some := list(said.values_list("pk", flat=True)[:AT_ONCE]):
        Prediction.objects.filter(pk__in=some).delete()
    with transaction.atomic():
        _refuse_if_used(project, model)
        model.delete()
        events.record(
            kind="predictions.deleted",
            project_id=project.pk,
            actor_id=actor.pk,
            payload={"model": model.name},
        )


def _refuse_if_used(project: Project, model: ExternalModel) -> None:
    if settings_of(project).predictions_from == model.name:
        raise ModelInUseError(
            f"The queue is ordered by {model.name}. Choose another source in the queue settings "
            "first."
        )
