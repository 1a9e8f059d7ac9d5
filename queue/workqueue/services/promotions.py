"""Going back to a former model."""

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling.models import Image
from workqueue.model_files import why_unusable
from workqueue.models import ModelVersion, QueueState, RankedImage, Ranking
from workqueue.requests import state_of

AT_ONCE = 500


class ModelUnusableError(Exception):
    """The model's files are not whole; the text says what is wrong."""


@dataclass(frozen=True)
class Promoted:
    """What going back to a model changed."""

    model: ModelVersion
    was_in_use: bool
    ranking: Ranking | None

    @property
    def sentence(self) -> str:
        """Return in words what the queue does from now on."""
        if self.was_in_use:
            return f"Model {self.model.number} is in use already."
        order = (
            f"The queue follows its ranking {self.ranking.number} again."
            if self.ranking
            else "Its ranking is no longer kept, so the present order stays until the next round."
        )
        return (
            f"Model {self.model.number} is in use. {order} "
            "The next round trains a new model from all labels, which takes its place."
        )


def promote(*, model: ModelVersion, actor: User) -> Promoted:
    """Let a former model be the one in use, with the newest ranking it made, if that is kept.

    One transaction flips both pointers. Two at once flip one after the other; one that asks for
    what is in use changes nothing.

    Raises:
        ModelUnusableError: its files are missing, torn or altered; nothing is changed.
    """
    wrong = why_unusable(model)
    if wrong:
        raise ModelUnusableError(
            f"Model {model.number} cannot be used: {wrong}. The present one stays in use."
        )
    state_of(model.project)
    with transaction.atomic():
        state = QueueState.objects.select_for_update(no_key=True).get(project=model.project_id)
        if state.model_version_id == model.pk:
            return Promoted(model, was_in_use=True, ranking=None)
        ranking = _kept_ranking(model)
        changes = {"model_version": model} | ({"ranking": ranking} if ranking else {})
        QueueState.objects.filter(pk=state.pk).update(**changes)
        former = state.model_version
        events.record(
            kind="model.promoted",
            project_id=model.project_id,
            actor_id=actor.pk,
            payload={
                "model": model.number,
                "before": former.number if former else None,
                "ranking": ranking.number if ranking else None,
            },
        )
    if ranking:
        _note_what_is_done(ranking)
    return Promoted(model, was_in_use=False, ranking=ranking)


def _kept_ranking(model: ModelVersion) -> Ranking | None:
    """Return the newest ranking the model made, if its positions are still there."""
    ranking = Ranking.objects.filter(model_version=model, rounds__state="done").first()
    if ranking and RankedImage.objects.filter(ranking=ranking).exists():
        return ranking
    return None


def _note_what_is_done(ranking: Ranking) -> None:
    """Bring the marks of a ranking up to date that was out of use while people labelled.

    A few images a transaction; claims do not depend on it but for speed and the old places.
    """
    positions = RankedImage.objects.filter(ranking=ranking)
    labelled = Q(image__status=Image.Status.LABELLED)
    wrong = positions.filter((labelled & Q(is_done=False)) | (~labelled & Q(is_done=True)))
    image_ids = sorted(wrong.values_list("image", flat=True))
    for start in range(0, len(image_ids), AT_ONCE):
        with transaction.atomic():
            images = Image.objects.select_for_update(no_key=True).order_by("pk")
            some = list(images.filter(pk__in=image_ids[start : start + AT_ONCE]))
            done = [image.pk for image in some if image.status == Image.Status.LABELLED]
            to_do = [image.pk for image in some if image.status != Image.Status.LABELLED]
            positions.filter(image__in=done).update(is_done=True)
            positions.filter(image__in=to_do).update(is_done=False)
