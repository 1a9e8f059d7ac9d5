"""What an external model says of the pool, beside the head trained here."""

import dataclasses

import numpy as np

from ml.arrays import FloatArray, IntArray
from workqueue.learning.labels import Pool
from workqueue.models import ExternalModel, Prediction


@dataclasses.dataclass(frozen=True)
class Predicted:
    """The images of the pool an external model has predictions of.

    Attributes:
        model: its name.
        kind: one class per image, or several.
        rows: shape (n,), ascending rows of the pool.
        probabilities: shape (n, n_classes), in the order of the project's classes.
    """

    model: str
    kind: str
    rows: IntArray
    probabilities: FloatArray

    def among(self, candidates: IntArray) -> IntArray:
        """Return those of the candidates (rows of the pool) it has predictions of."""
        return candidates[np.isin(candidates, self.rows)]

    def of(self, rows: IntArray) -> FloatArray:
        """Return the probabilities of some rows of the pool, all of which it has."""
        return self.probabilities[np.searchsorted(self.rows, rows)]


def load_predicted(model: ExternalModel, pool: Pool, class_ids: list[int]) -> Predicted:
    """Read the predictions of the open images.

    Of a class that was deleted since, the probability is shared out among the others; of one the
    model does not know it is 0.

    Args:
        model: whose predictions.
        pool: the open images.
        class_ids: the project's classes.
    """
    image_ids, table = _stored(model)
    by_id = np.argsort(pool.image_ids, kind="stable")
    places = np.searchsorted(pool.image_ids, image_ids, sorter=by_id)
    places = by_id[np.minimum(places, max(len(pool) - 1, 0))] if len(pool) else places
    is_open = pool.image_ids[places] == image_ids if len(pool) else np.zeros(len(places), bool)
    rows, table = places[is_open], _in_order(table[is_open], model.class_ids, class_ids)
    kind = model.project.kind
    if kind == "one_class":
        sums = table.sum(axis=1, keepdims=True)
        says = sums[:, 0] > 0
        rows, table = rows[says], table[says] / sums[says]
    ascending = np.argsort(rows)
    return Predicted(model.name, kind, rows[ascending], table[ascending])


def _stored(model: ExternalModel) -> tuple[IntArray, FloatArray]:
    """Return image ids (n,) and probabilities (n, classes of the model)."""
    n_classes = len(model.class_ids)
    found = Prediction.objects.filter(external_model=model, image__status="open")
    image_ids, parts = [], []
    for image_id, stored in found.values_list("image_id", "probabilities").iterator(10_000):
        image_ids.append(image_id)
        # What was stored before the model knew more classes is shorter.
        parts.append(bytes(stored).ljust(4 * n_classes, b"\0"))
    table = np.frombuffer(b"".join(parts), dtype="<f4").reshape(len(parts), n_classes)
    return np.array(image_ids, dtype=np.int64), table


def _in_order(table: FloatArray, stored: list[int], wanted: list[int]) -> FloatArray:
    column = {pk: place for place, pk in enumerate(stored)}
    ordered = np.zeros((len(table), len(wanted)), dtype=np.float32)
    for place, pk in enumerate(wanted):
        if pk in column:
            ordered[:, place] = table[:, column[pk]]
    return ordered
