"""Fine-tuning a project's network, measuring it, and embedding anew what a round looks at."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from torch import nn

from annotator.labeling.models import Image
from ml import backbones, calibration, embeddings, fine_tuning, training
from ml.arrays import BoolArray, FloatArray, IntArray
from ml.backbones import Backbone
from ml.heads import Head
from workqueue.learning.heads import (
    CALIBRATE_FROM,
    MEASURE_FROM,
    TrainedHead,
    head_config,
    metrics_of,
)
from workqueue.learning.labels import LabelledSet, Pool
from workqueue.learning.ordering import Reembedded, candidate_rows
from workqueue.learning.store import BACKBONE, local_file
from workqueue.models import ModelVersion, QueueSettings

FineTuningError = fine_tuning.FineTuningError
# Images embedded between two looks at the clock.
SLICE = 64
# From so many images on, half a minute of export is won back by embedding three times as fast.
EXPORT_FROM = 800
# What bounds the time of training; measured figures are in docs/heuristics.md.
MAX_STEPS = {"cpu": 150, "cuda": 1000}


@dataclasses.dataclass(frozen=True)
class FineTunedNetwork:
    """A network, not measured yet.

    Attributes:
        tuned: what fine-tuning gave.
        held_out: shape (n_labelled,), labels neither network nor head has seen.
        device: where it was trained.
    """

    tuned: fine_tuning.FineTuned
    held_out: BoolArray
    device: str


def fine_tune(
    labelled: LabelledSet,
    config: QueueSettings,
    *,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> FineTunedNetwork:
    """Fine-tune the pretrained network on the labels that accuracy is not measured on.

    Args:
        labelled: the labels, with the embeddings of the frozen network.
        config: the project's queue settings.
        seed: of everything drawn.
        on_step: called with the steps done and all steps; may raise to stop.

    Raises:
        NotEnoughLabelsError: fewer than two classes have labels.
        FineTuningError: no thumbnail can be read, or training went astray.
    """
    held_out = held_out_of(labelled)
    rows = np.flatnonzero(~held_out)
    device = backbones.best_device()
    with tempfile.TemporaryDirectory() as folder:
        tuned = fine_tuning.fine_tune(
            backbones.load_network(BACKBONE),
            backbones.BACKBONES[BACKBONE],
            _thumbnails(labelled.image_ids[rows], Path(folder)),
            labelled.vectors[rows],
            labelled.targets[rows],
            n_classes=len(labelled.class_ids),
            kind=labelled.kind,
            seed=seed,
            config=fine_tuning.FineTuningConfig(
                max_steps=MAX_STEPS[device], balanced=config.balance_classes
            ),
            device=device,
            decode_threads=settings.THREADS,
            on_step=on_step,
        )
    return FineTunedNetwork(tuned, held_out, device)


def held_out_of(labelled: LabelledSet) -> BoolArray:
    """Return which labels are kept out of training, (n,): a random sample, or none.

    The first of the random list are taken: they stay the same from round to round. They are at
    most a third of the labels, or as many as a measurement needs, but never more than half: where
    all labels are a random sample something must be left to learn from.
    """
    held_out = np.zeros(len(labelled), dtype=bool)
    n_most = min(measurable(labelled), max(MEASURE_FROM, len(labelled) // 3))
    if n_most < MEASURE_FROM:
        return held_out
    sample = np.flatnonzero(labelled.measured)
    held_out[sample[np.argsort(labelled.random_keys[sample])][:n_most]] = True
    return held_out if _has_two_classes(labelled, ~held_out) else np.zeros_like(held_out)


def measurable(labelled: LabelledSet) -> int:
    """Return how many labels accuracy could be measured on."""
    return min(int(labelled.measured.sum()), len(labelled) // 2)


def _has_two_classes(labelled: LabelledSet, rows: BoolArray) -> bool:
    targets = labelled.targets[rows]
    if labelled.kind == "several_classes":
        return bool(targets.any() and not targets.all())
    return len(np.unique(targets)) >= 2


def embedder(network: nn.Module, *, n_images: int) -> Backbone:
    """Return what embeds so many images fastest with a fine-tuned network."""
    spec, device = backbones.BACKBONES[BACKBONE], backbones.best_device()
    if device != "cpu" or n_images < EXPORT_FROM:
        return backbones.torch_backbone(spec, network, device)
    with tempfile.TemporaryDirectory() as folder:
        return backbones.exported_backbone(spec, network, cache_dir=Path(folder))


def embed_labelled(
    labelled: LabelledSet,
    network: FineTunedNetwork,
    backbone: Backbone,
    config: QueueSettings,
    *,
    seed: int,
    go_on: Callable[[int, int], bool],
) -> tuple[LabelledSet, TrainedHead]:
    """Embed the labelled images with the network; fit, measure and calibrate a head on that.

    Args:
        labelled: the labels the network was trained on, with those it was not.
        network: from :func:`fine_tune`.
        backbone: its :func:`embedder`.
        config: the project's queue settings.
        seed: for heads whose fit is random.
        go_on: called with the images done and all of them; False or an error ends it.

    Returns:
        The labels with their new embeddings, without images that cannot be read any more, and the
        head. Accuracy is measured on the images held out; without any it is None.

    Raises:
        NotEnoughLabelsError: so many files are gone that fewer than two classes are left.
        FineTuningError: there was no time to embed all of them.
    """
    seen = _embed(labelled.image_ids, backbone, go_on)
    if not seen.is_complete:
        raise FineTuningError("There was no time to embed the labelled images with the network.")
    labelled = dataclasses.replace(
        labelled,
        image_ids=labelled.image_ids[seen.kept],
        random_keys=labelled.random_keys[seen.kept],
        vectors=seen.vectors,
        targets=labelled.targets[seen.kept],
        measured=labelled.measured[seen.kept],
    )
    held_out = network.held_out[seen.kept]
    # In so few small steps the head that is trained with the network lags behind it: fitted once
    # more it was better in two of three tries (docs/heuristics.md). It is the project's choice too.
    head = training.fit_head(
        labelled.vectors[~held_out],
        labelled.targets[~held_out],
        n_classes=len(labelled.class_ids),
        kind=labelled.kind,
        seed=seed,
        config=head_config(config),
        start_from=network.tuned.head,
    )
    head, metrics = _measured(labelled, head, held_out)
    metrics["n_measurable"] = measurable(labelled)
    metrics["fine_tuning"] = {
        "device": network.device,
        "n_trained": int((~held_out).sum()),
        "n_held_out": int(held_out.sum()),
        "n_unreadable": len(network.tuned.failures),
        "steps": len(network.tuned.losses),
        "first_loss": round(network.tuned.losses[0], 4),
        "last_loss": round(network.tuned.losses[-1], 4),
    }
    return labelled, TrainedHead(head, metrics, network.tuned.network)


def _measured(
    labelled: LabelledSet, head: Head, held_out: BoolArray
) -> tuple[Head, dict[str, Any]]:
    """Return the calibrated head, and what it gets right among images it has not seen."""
    if held_out.sum() < MEASURE_FROM:
        return head, {"accuracy": None, "per_class": [], "ece": None}
    truth = labelled.targets[held_out]
    logits = head.logits(labelled.vectors[held_out])
    if len(truth) >= CALIBRATE_FROM:
        # The temperature that is served is fitted on all of them. It changes no answer, so the
        # accuracy stays honest; the calibration error is taken from temperatures fitted on others.
        head = head.calibrated(calibration.fit_temperature(logits, truth, kind=labelled.kind))
        logits = calibration.cross_calibrated(logits, truth, kind=labelled.kind)
    return head, metrics_of(labelled, logits, truth, temperature=1.0)


def embed_candidates(
    pool: Pool,
    config: QueueSettings,
    backbone: Backbone,
    *,
    seed: int,
    go_on: Callable[[int, int], bool],
) -> Reembedded:
    """Embed what the rank budget allows, and only that, with a fine-tuned network.

    Args:
        pool: the open images.
        config: the project's queue settings.
        backbone: the network's :func:`embedder`.
        seed: of the draw.
        go_on: called with the images done and all of them; after False the others are left out.
    """
    # In random order, so that what is embedded when the time is up is a fair part of the pool.
    rows = np.random.default_rng([seed, 1]).permutation(candidate_rows(pool, config, seed))
    seen = _embed(pool.image_ids[rows], backbone, go_on)
    return Reembedded(rows[seen.kept], seen.vectors, len(rows))


@dataclasses.dataclass(frozen=True)
class _Embedded:
    kept: IntArray  # (n_kept,) places in the list of images
    vectors: FloatArray  # (n_kept, dim) float16
    is_complete: bool  # there was time for all


def _embed(image_ids: IntArray, backbone: Backbone, go_on: Callable[[int, int], bool]) -> _Embedded:
    vectors = _scratch(len(image_ids), backbone.spec.dim)
    kept: list[int] = []
    is_complete = True
    for start in range(0, len(image_ids), SLICE):
        is_complete = go_on(start, len(image_ids))
        if not is_complete:
            break
        with tempfile.TemporaryDirectory() as folder:
            paths = _thumbnails(image_ids[start : start + SLICE], Path(folder))
            found = embeddings.embed_files(paths, backbone, threads=settings.THREADS)
        vectors[len(kept) : len(kept) + len(found.kept)] = found.vectors
        kept += (start + found.kept).tolist()
    return _Embedded(np.array(kept, dtype=np.int64), vectors[: len(kept)], is_complete)


def _scratch(n: int, dim: int) -> FloatArray:
    """Return room for embeddings in a nameless file: those of a million do not fit in memory."""
    if not n:
        return np.empty((0, dim), dtype=np.float16)
    with tempfile.TemporaryFile(dir=settings.DATA_DIR) as file:
        return np.memmap(file, dtype=np.float16, mode="w+", shape=(n, dim))


def _thumbnails(image_ids: IntArray, folder: Path) -> list[Path]:
    """Return the files the frozen network was shown; from a bucket they are fetched to a folder."""
    images = Image.objects.only("project_id", "key").in_bulk(image_ids.tolist())
    return [local_file(images[pk].thumbnail_name, folder) for pk in image_ids.tolist()]


def drop_networks(models: Iterable[ModelVersion]) -> None:
    """Delete the networks of model versions; their heads and figures stay."""
    for model in models:
        (settings.MODELS_ROOT / model.folder / fine_tuning.NETWORK).unlink(missing_ok=True)


def embed_paths_with(model: ModelVersion, paths: Sequence[Path]) -> tuple[FloatArray, list[int]]:
    """Embed picture files with the network of a fine-tuned model version.

    Returns:
        The embeddings, (n_kept, dim) float16, and the indices of the files they belong to.

    Raises:
        CorruptModelError: its files are missing or altered.
    """
    folder = settings.MODELS_ROOT / model.folder
    network = fine_tuning.load_fine_tuned(folder, backbones.load_network(BACKBONE))
    backbone = embedder(network, n_images=len(paths))
    found = embeddings.embed_files(list(paths), backbone, threads=settings.THREADS)
    return found.vectors, found.kept.tolist()
