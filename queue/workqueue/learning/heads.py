"""Training, honest figures and keeping of a project's heads."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from torch import nn

from ml import calibration, evaluation, fine_tuning, forecast, heads, training
from ml.arrays import FloatArray
from workqueue.learning.labels import LabelledSet, Pool
from workqueue.learning.store import BACKBONE
from workqueue.models import ModelVersion, QueueSettings

# Fewer measured images than these say nothing about accuracy and calibration.
MEASURE_FROM = 10
CALIBRATE_FROM = 30
FOLDS = 5
AGREEMENT_IMAGES = 2_000
NotEnoughLabelsError = training.NotEnoughLabelsError


@dataclasses.dataclass(frozen=True)
class TrainedHead:
    """A calibrated head and what is honestly known of it.

    Attributes:
        head: the head.
        metrics: its figures.
        network: what embeds for it, when that was fine-tuned; else the frozen backbone does.
    """

    head: heads.Head
    metrics: dict[str, Any]
    network: nn.Module | None = None


def head_config(config: QueueSettings) -> training.HeadConfig:
    """Return how the project wants its head fitted."""
    return training.HeadConfig(head=config.head, balanced=config.balance_classes)


def train(
    labelled: LabelledSet,
    config: QueueSettings,
    *,
    seed: int,
    start_from: heads.Head | None = None,
) -> TrainedHead:
    """Fit the head on all labels; measure and calibrate it on the random sample, out of fold.

    Args:
        labelled: the labels.
        config: the project's queue settings.
        seed: of everything drawn.
        start_from: the former head, to be there sooner with the same result.

    Raises:
        NotEnoughLabelsError: fewer than two classes have labels.
    """
    n_classes = len(labelled.class_ids)
    vectors = np.asarray(labelled.vectors, dtype=np.float32)
    head = training.fit_head(
        vectors,
        labelled.targets,
        n_classes=n_classes,
        kind=labelled.kind,
        seed=seed,
        config=head_config(config),
        start_from=start_from,
    )
    metrics: dict[str, Any] = {"accuracy": None, "per_class": [], "ece": None}
    metrics["n_measurable"] = int(labelled.measured.sum())
    if metrics["n_measurable"] >= MEASURE_FROM:
        logits = evaluation.out_of_fold(
            vectors,
            labelled.targets,
            labelled.measured,
            n_classes=n_classes,
            kind=labelled.kind,
            folds=FOLDS,
            seed=seed,
            config=head_config(config),
        )
        truth = labelled.targets[labelled.measured]
        if len(truth) >= CALIBRATE_FROM:
            temperature = calibration.fit_temperature(logits, truth, kind=labelled.kind)
            head = head.calibrated(temperature)
        metrics |= metrics_of(labelled, logits, truth, head.temperature)
    return TrainedHead(head, metrics)


def metrics_of(
    labelled: LabelledSet, logits: FloatArray, truth: Any, temperature: float
) -> dict[str, Any]:
    """Return the figures of a head.

    Args:
        labelled: what the classes are.
        logits: shape (n, n_classes), of images the head had not seen.
        truth: their classes.
        temperature: the logits are divided by it.
    """
    report = evaluation.accuracy_report(logits / temperature, truth, kind=labelled.kind)
    return {
        "accuracy": {
            "value": report.accuracy,
            "low": report.low,
            "high": report.high,
            "n": report.n,
        },
        "per_class": [
            {
                "class_id": labelled.class_ids[index],
                "recall": recall.value,
                "low": recall.low,
                "high": recall.high,
                "n": recall.n,
            }
            for index, recall in enumerate(report.per_class)
        ],
        "ece": report.ece,
        "micro_f1": report.micro_f1,
        "frame_until": labelled.frame_until,
    }


def save_head(
    trained: TrainedHead, *, folder: Path, class_ids: list[int], number: int, version: str
) -> str:
    """Save a model version, complete or not at all; return the weights' sha-256."""
    manifest = {
        "number": number,
        "class_ids": class_ids,
        "backbone": BACKBONE,
        "metrics": trained.metrics,
        "code_version": version,
    }
    if trained.network is None:
        return heads.save_head(trained.head, folder, manifest)
    return fine_tuning.save_fine_tuned(trained.network, trained.head, folder, manifest)


def load_head(model: ModelVersion) -> heads.Head:
    """Load a saved model version, checked against its sha-256.

    Raises:
        CorruptModelError: its files are missing or altered.
    """
    return heads.load_head(settings.MODELS_ROOT / model.folder)


def former_head(model: ModelVersion | None, class_ids: list[int]) -> heads.Head | None:
    """Return a former head of the same classes and the frozen backbone, where it can be read."""
    if model is None or model.class_ids != class_ids or model.backbone != BACKBONE:
        return None
    if model.training != QueueSettings.Training.HEAD:
        # It speaks of the embeddings of its own network.
        return None
    try:
        return load_head(model)
    except heads.CorruptModelError:
        # Only a start for the fit: without it the fit starts from zero and ends at the same place.
        return None


def agreement(
    head: heads.Head, former: ModelVersion | None, class_ids: list[int], pool: Pool
) -> float | None:
    """Return Cohen's kappa between a head and a former one on a fixed random part of the pool.

    Args:
        head: today's.
        former: a model of at least a tenth fewer labels.
        class_ids: today's classes.
        pool: the open images; the first of the random list are looked at.

    Returns:
        At most 1; None without a comparable former head.
    """
    before = former_head(former, class_ids)
    if before is None or head.kind == "several_classes" or not len(pool):
        return None
    rows = np.argsort(pool.random_keys, kind="stable")[:AGREEMENT_IMAGES]
    vectors = pool.vectors(np.sort(rows))
    said = [which.logits(vectors).argmax(axis=1) for which in (head, before)]
    return round(evaluation.cohens_kappa(said[0], said[1]), 4)


def forecast_of(points: Sequence[tuple[int, dict[str, float]]]) -> dict[str, Any] | None:
    """Continue a learning curve.

    Args:
        points: labels and measured accuracy of each round, the oldest first.
    """
    expected = forecast.forecast(
        [labels for labels, _ in points],
        [accuracy["value"] for _, accuracy in points],
        [int(accuracy["n"]) for _, accuracy in points],
    )
    return dataclasses.asdict(expected) if expected else None
