"""Whether a round ranks by the predictions of a model outside, and what they leave out."""

from annotator.labeling.models import Project
from workqueue import learning
from workqueue.models import ExternalModel, QueueSettings


def predictions_for(
    project: Project, config: QueueSettings, pool: learning.Pool, class_ids: list[int]
) -> tuple[learning.Predicted | None, str]:
    """Return the predictions to rank by, or None for the model trained here, and a note on gaps.

    Args:
        project: whose round.
        config: its queue settings.
        pool: the open images.
        class_ids: the classes.
    """
    name = config.predictions_from
    model = ExternalModel.objects.filter(project=project, name=name).first() if name else None
    if model is None or not len(pool):
        return None, ""
    predicted = learning.load_predicted(model, pool, class_ids)
    n_missing = len(pool) - len(predicted.rows)
    if n_missing == len(pool):
        return None, f"No open image has a prediction of {name}: our own model ranked."
    if n_missing:
        return predicted, (
            f"{n_missing:,} of {len(pool):,} images have no prediction of {name}: they follow in "
            "random order."
        )
    return predicted, ""
