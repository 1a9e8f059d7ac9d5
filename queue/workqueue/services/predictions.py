"""What external models say of images."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling.models import Image, LabelClass, Project
from workqueue.models import ExternalModel, Prediction, QueueState
from workqueue.requests import request_round_if_due, settings_of, state_of

# SQLite takes some thousand parameters a statement.
INSERT_AT_ONCE = 5_000


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


@transaction.atomic
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
    external, _ = ExternalModel.objects.get_or_create(
        project=project, name=model, defaults={"class_ids": list(class_ids)}
    )
    external = ExternalModel.objects.select_for_update().get(pk=external.pk)
    external.class_ids += [pk for pk in class_ids if pk not in external.class_ids]
    order = [list(class_ids).index(pk) if pk in class_ids else None for pk in external.class_ids]
    living = _among(Image.objects.filter(project=project, deleted_at=None), "pk", image_ids)
    known = _among(Prediction.objects.filter(external_model=external), "image_id", image_ids)
    kept = [index for index, pk in enumerate(image_ids) if pk in living]
    Prediction.objects.bulk_create(
        (
            Prediction(
                external_model=external,
                image_id=image_ids[index],
                probabilities=_reordered(rows[index], order),
            )
            for index in kept
        ),
        batch_size=INSERT_AT_ONCE,
        update_conflicts=True,
        unique_fields=["external_model", "image"],
        update_fields=["probabilities"],
    )
    n_created = len(living - known)
    external.n_images += n_created
    external.updated_at = timezone.now()
    external.save()
    if kept:
        _tell(project, actor, external, len(kept))
    return StoredPredictions(
        n_created=n_created,
        n_updated=len(kept) - n_created,
        unknown=[index for index, pk in enumerate(image_ids) if pk not in living],
    )


def _refuse_unknown_classes(project: Project, class_ids: Sequence[int]) -> None:
    known = LabelClass.objects.filter(project=project, deleted_at=None).values_list("pk", flat=True)
    unknown = sorted(set(class_ids) - set(known))
    if unknown:
        raise PredictionsRefusedError(f"Class {unknown[0]} is not one of this project's.")


def _among(rows: QuerySet[Any], name: str, image_ids: Sequence[int]) -> set[int]:
    found: set[int] = set()
    for start in range(0, len(image_ids), INSERT_AT_ONCE):
        part = image_ids[start : start + INSERT_AT_ONCE]
        found |= set(rows.filter(**{f"{name}__in": part}).values_list(name, flat=True))
    return found


def _reordered(row: bytes, order: list[int | None]) -> bytes:
    if order == list(range(len(row) // 4)):
        return row
    zero = bytes(4)
    return b"".join(zero if at is None else row[4 * at : 4 * at + 4] for at in order)


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


@transaction.atomic
def delete_predictions(*, project: Project, actor: User, model: ExternalModel) -> None:
    """Forget a model and all it said.

    Raises:
        ModelInUseError: the queue is ordered by it.
    """
    if settings_of(project).predictions_from == model.name:
        raise ModelInUseError(
            f"The queue is ordered by {model.name}. Choose another source in the queue settings "
            "first."
        )
    Prediction.objects.filter(external_model=model).delete()
    model.delete()
    events.record(
        kind="predictions.deleted",
        project_id=project.pk,
        actor_id=actor.pk,
        payload={"model": model.name},
    )
