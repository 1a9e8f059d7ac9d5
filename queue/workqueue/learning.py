"""Rows in, arrays through ``ml``, plain results out: the only module that imports ``ml``.

Imported by workers alone: it loads torch, and the web process must never do that (a test looks).
"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage
from django.db.models import Exists, OuterRef

from annotator.labeling.models import Annotation, AnnotationRegion, Image, LabelClass, Project
from ml import backbones, calibration, embedding_store, embeddings, evaluation, heads, training
from ml.arrays import BoolArray, FloatArray, IntArray
from ml.heuristics import HEURISTICS
from ml.ranking import score_pool
from ml.selection import Selection, coverage_order, mix_exploration, rank_candidates
from workqueue.models import Embedding, ModelVersion, QueueSettings, Segment, Skip

BACKBONE = settings.BACKBONE
# Fewer measured images than these say nothing about accuracy and calibration.
MEASURE_FROM = 10
CALIBRATE_FROM = 30
FOLDS = 5
N_TOP_CLASSES = 5

__all__ = [
    "EmbeddedSlice",
    "LabelledSet",
    "NotEnoughLabelsError",
    "Pool",
    "RankedPool",
    "TornSegmentError",
    "TrainedHead",
    "coverage_ranking",
    "embed_images",
    "embed_paths",
    "heuristic_ranking",
    "load_head",
    "load_labelled",
    "load_pool",
    "save_head",
    "train",
    "warm_up",
]

NotEnoughLabelsError = training.NotEnoughLabelsError
TornSegmentError = embedding_store.TornSegmentError


def warm_up() -> None:
    """Load torch and the backbone before the first job asks for them."""
    torch.set_num_threads(settings.THREADS)
    backbone()


@lru_cache(maxsize=1)
def backbone() -> backbones.Backbone:
    """Return the frozen backbone, loaded once per process."""
    return backbones.load_backbone(
        BACKBONE, cache_dir=settings.BACKBONES_ROOT, threads=settings.THREADS
    )


# --- Embeddings -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class EmbeddedSlice:
    """A stored segment and which images are in which row, with the failures beside them."""

    segment: embedding_store.Segment | None
    image_ids: list[int]
    failures: dict[int, str]


def embed_images(
    images: Sequence[Image], *, on_batch: Callable[[int], None] | None = None
) -> EmbeddedSlice:
    """Embed the images' thumbnails and store them as one segment (not yet registered)."""
    with ExitStack() as stack:
        paths = [_local_file(image.thumbnail_name, stack) for image in images]
        embedded = embeddings.embed_files(
            paths, backbone(), decode_threads=settings.THREADS, on_batch=on_batch
        )
    segment = (
        embedding_store.write_segment(settings.EMBEDDINGS_ROOT, embedded.vectors)
        if len(embedded.kept)
        else None
    )
    return EmbeddedSlice(
        segment=segment,
        image_ids=[images[index].pk for index in embedded.kept],
        failures={images[index].pk: reason for index, reason in embedded.failures.items()},
    )


def embed_paths(paths: Sequence[Path]) -> tuple[Any, list[int]]:
    """Embed picture files without storing anything.

    Returns:
        The embeddings, (n_kept, dim) float16, and the indices of the files they belong to.
    """
    embedded = embeddings.embed_files(list(paths), backbone(), decode_threads=settings.THREADS)
    return embedded.vectors, [int(index) for index in embedded.kept]


def _local_file(name: str, stack: ExitStack) -> Path:
    """Return a local path of a stored file, fetched to a temporary one from a bucket."""
    if isinstance(default_storage, FileSystemStorage) or hasattr(default_storage, "location"):
        local = Path(str(getattr(default_storage, "location", ""))) / name
        if local.is_absolute():
            return local
    temporary = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".jpg"))  # noqa: SIM115
    with default_storage.open(name) as stored:
        temporary.write(stored.read())
    temporary.flush()
    return Path(temporary.name)


def compact(
    keep: Mapping[str, Sequence[int]],
) -> tuple[embedding_store.Segment, list[tuple[str, int]]]:
    """Write the rows worth keeping of some segments into a new one.

    Args:
        keep: segment name -> rows to keep.

    Returns:
        The new segment and, for each of its rows, the segment and row it came from.
    """
    names = [name for name, rows in keep.items() for _ in rows]
    rows = np.array([row for kept in keep.values() for row in kept], dtype=np.int64)
    vectors = embedding_store.gather(settings.EMBEDDINGS_ROOT, names, rows)
    segment = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, vectors)
    return segment, list(zip(names, rows.tolist(), strict=True))


def remove_segment_file(name: str) -> None:
    """Delete a segment's file, once no row of the database names it."""
    embedding_store.remove_segment(settings.EMBEDDINGS_ROOT, name)


def remove_stray_segments(*, keep: set[str]) -> None:
    """Delete files that no row names: what a killed worker left behind."""
    embedding_store.remove_strays(settings.EMBEDDINGS_ROOT, keep=keep)


def verify_segment(segment: Segment) -> None:
    """Check a segment's file against its row, at most once per process.

    Raises:
        TornSegmentError: the file is missing, short or altered.
    """
    _verify(segment.name, segment.n_rows, segment.dim, segment.sha256)


@lru_cache(maxsize=100_000)
def _verify(name: str, rows: int, dim: int, sha256: str) -> None:
    embedding_store.verify_segment(
        settings.EMBEDDINGS_ROOT,
        embedding_store.Segment(name=name, rows=rows, dim=dim, sha256=sha256),
    )


# --- What a round works on --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pool:
    """The embedded images nobody has labelled, in storage order."""

    image_ids: IntArray  # (n,)
    random_keys: IntArray  # (n,)
    names: list[str]  # segment of each image
    rows: IntArray  # (n,) row in the segment

    def __len__(self) -> int:
        return len(self.image_ids)

    def vectors(self, which: IntArray | None = None) -> FloatArray:
        """Return the float16 embeddings of all or some images, (n, dim)."""
        if which is None:
            return embedding_store.gather(settings.EMBEDDINGS_ROOT, self.names, self.rows)
        names = [self.names[index] for index in which]
        return embedding_store.gather(settings.EMBEDDINGS_ROOT, names, self.rows[which])

    def blocks(self, which: IntArray) -> Any:
        """Yield the embeddings of some images block by block, so that memory stays bounded."""
        names = [self.names[index] for index in which]
        return embedding_store.iter_blocks(
            settings.EMBEDDINGS_ROOT, names, self.rows[which], block_rows=16_384
        )


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """The labels a head is trained on, with the part of them that is a random sample."""

    class_ids: list[int]
    image_ids: IntArray  # (n,)
    vectors: FloatArray  # (n, dim)
    targets: Any  # (n,) class indices, or (n, n_classes) of 0 and 1
    measured: BoolArray  # (n,) the image is in the random sample
    frame_until: int  # the newest image the random sample stands for
    kind: str

    def __len__(self) -> int:
        return len(self.image_ids)


def load_pool(project: Project) -> Pool:
    """Read which images are open and where their embeddings are."""
    rows = (
        Embedding.objects.filter(
            image__project=project,
            image__status=Image.Status.OPEN,
            image__deleted_at=None,
            segment__isnull=False,
        )
        .order_by("segment_id", "row")
        .values_list("image_id", "image__random_key", "segment__name", "row")
    )
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return Pool(
        image_ids=np.array(columns[0], dtype=np.int64),
        random_keys=np.array(columns[1], dtype=np.int64),
        names=list(columns[2]),
        rows=np.array(columns[3], dtype=np.int64),
    )


def load_labelled(project: Project, *, frame_before: int) -> LabelledSet:
    """Read the labels that count: current ones, of living images and living classes.

    Where two people's labels stand for one image the earlier one counts.

    Args:
        project: whose labels.
        frame_before: the newest image the last measured random sample stood for (0: none).
    """
    class_ids = list(
        LabelClass.objects.filter(project=project, deleted_at=None).values_list("pk", flat=True)
    )
    said = _labels_by_image(project)
    several = project.kind == Project.Kind.SEVERAL_CLASSES
    known = set(class_ids)
    usable = {
        image_id: [pk for pk in classes if pk in known]
        for image_id, classes in said.items()
        if several or (len(classes) == 1 and classes[0] in known)
    }
    places = (
        Embedding.objects.filter(image__in=usable, segment__isnull=False)
        if len(usable) < 500
        else Embedding.objects.filter(
            image__project=project, image__status=Image.Status.LABELLED, segment__isnull=False
        )
    )
    found = [
        row
        for row in places.order_by("segment_id", "row").values_list(
            "image_id", "image__random_key", "segment__name", "row"
        )
        if row[0] in usable
    ]
    image_ids = np.array([row[0] for row in found], dtype=np.int64)
    random_keys = np.array([row[1] for row in found], dtype=np.int64)
    measured, frame = _random_sample(project, image_ids, random_keys, frame_before)
    return LabelledSet(
        class_ids=class_ids,
        image_ids=image_ids,
        vectors=embedding_store.gather(
            settings.EMBEDDINGS_ROOT,
            [row[2] for row in found],
            np.array([row[3] for row in found], dtype=np.int64),
        )
        if found
        else np.empty((0, 1), dtype=np.float16),
        targets=_targets([usable[pk] for pk in image_ids.tolist()], class_ids, several=several),
        measured=measured,
        frame_until=frame,
        kind=project.kind,
    )


def _labels_by_image(project: Project) -> dict[int, list[int]]:
    """Return image id -> class ids of its earliest current annotation."""
    current = Annotation.objects.filter(
        image__project=project, image__deleted_at=None, is_current=True
    )
    first: dict[int, int] = {}
    for pk, image_id in current.order_by("pk").values_list("pk", "image_id"):
        first.setdefault(image_id, pk)
    chosen = set(first.values())
    classes: dict[int, list[int]] = {pk: [] for pk in chosen}
    regions = AnnotationRegion.objects.filter(
        annotation__image__project=project,
        annotation__is_current=True,
        shape=AnnotationRegion.Shape.WHOLE_IMAGE,
    )
    for annotation_id, class_id in regions.values_list("annotation_id", "label_class_id"):
        if annotation_id in chosen:
            classes[annotation_id].append(class_id)
    return {image_id: classes[pk] for image_id, pk in first.items()}


def _targets(labels: list[list[int]], class_ids: list[int], *, several: bool) -> Any:
    index = {pk: position for position, pk in enumerate(class_ids)}
    if not several:
        return np.array([index[classes[0]] for classes in labels], dtype=np.int64)
    targets = np.zeros((len(labels), len(class_ids)), dtype=np.float32)
    for row, classes in enumerate(labels):
        targets[row, [index[pk] for pk in classes]] = 1.0
    return targets


def _random_sample(
    project: Project, image_ids: IntArray, random_keys: IntArray, frame_before: int
) -> tuple[BoolArray, int]:
    """Return which labelled images are a random sample, and the newest image it stands for.

    The project's random list orders all images by a hash. The images before the first one that is
    still open are a uniform sample of the collection, whoever chose them. New images open gaps in
    that prefix; until the exploration share has closed them, the sample of the images that were
    there before is used, and the page says so.
    """
    newest = (
        Image.objects.filter(project=project).order_by("-pk").values_list("pk", flat=True).first()
    )
    of_all = random_keys < _first_gap(project, newest or 0)
    if not frame_before or frame_before == newest:
        return of_all, newest or 0
    of_old = (random_keys < _first_gap(project, frame_before)) & (image_ids <= frame_before)
    if of_all.sum() >= 0.8 * of_old.sum():
        return of_all, newest or 0
    return of_old, frame_before


def _first_gap(project: Project, newest: int) -> int:
    skipped = Exists(Skip.objects.filter(image=OuterRef("pk")))
    gap = (
        Image.objects.filter(
            project=project, status=Image.Status.OPEN, deleted_at=None, pk__lte=newest
        )
        .filter(~skipped)
        .order_by("random_key")
        .values_list("random_key", flat=True)
        .first()
    )
    return 2**62 if gap is None else gap


# --- Training and evaluation ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainedHead:
    """A calibrated head and what is honestly known of it."""

    head: heads.LogisticHead
    metrics: dict[str, Any]


def train(labelled: LabelledSet, *, seed: int) -> TrainedHead:
    """Fit the head on all labels; measure and calibrate it on the random sample, out of fold.

    Raises:
        NotEnoughLabelsError: fewer than two classes have labels.
    """
    n_classes = len(labelled.class_ids)
    vectors = np.asarray(labelled.vectors, dtype=np.float32)
    head = training.fit_head(
        vectors, labelled.targets, n_classes=n_classes, kind=labelled.kind, seed=seed
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
        )
        truth = labelled.targets[labelled.measured]
        if len(truth) >= CALIBRATE_FROM:
            temperature = calibration.fit_temperature(logits, truth, kind=labelled.kind)
            head = dataclasses.replace(head, temperature=temperature)
        metrics |= _metrics(labelled, logits, truth, head.temperature)
    return TrainedHead(head, metrics)


def _metrics(
    labelled: LabelledSet, logits: FloatArray, truth: Any, temperature: float
) -> dict[str, Any]:
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
    return heads.save_head(
        trained.head,
        folder,
        {
            "number": number,
            "class_ids": class_ids,
            "backbone": BACKBONE,
            "metrics": trained.metrics,
            "code_version": version,
        },
    )


def load_head(model: ModelVersion) -> heads.LogisticHead:
    """Load a saved model version, checked against its sha-256."""
    return heads.load_head(settings.MODELS_ROOT / model.folder)


# --- Ranking ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class RankedPool:
    """The order to serve, as rows of the pool, with what is to be remembered of each."""

    selection: Selection
    scores: dict[int, float]  # row of the pool -> score
    top_classes: dict[int, list[tuple[int, float]]]  # row -> (class index, probability)
    n_candidates: int


def coverage_ranking(
    pool: Pool, labelled: LabelledSet, config: QueueSettings, *, n_positions: int, seed: int
) -> RankedPool:
    """Order a pool no head can rank yet: typical and diverse images first."""
    candidates = _candidates(pool, config, seed)
    order = coverage_order(
        np.asarray(pool.vectors(candidates), dtype=np.float32),
        labelled=np.asarray(labelled.vectors, dtype=np.float32) if len(labelled) else None,
        n_positions=n_positions,
        per_round=config.batch_size,
        seed=seed,
    )
    return _mixed(pool, candidates[order], config, n_positions, len(candidates))


def heuristic_ranking(
    pool: Pool, head: heads.LogisticHead, config: QueueSettings, *, n_positions: int, seed: int
) -> RankedPool:
    """Score the candidates the rank budget allows and order them, highest score first."""
    candidates = _candidates(pool, config, seed)
    name = config.heuristic
    scored = score_pool(head, name, pool.blocks(candidates), seed=seed, n_top_classes=N_TOP_CLASSES)
    order = (
        np.argsort(pool.image_ids[candidates], kind="stable")
        if HEURISTICS[name].needs == "nothing" and name == "none"
        else rank_candidates(scored.scores, tie_order=pool.random_keys[candidates])
    )
    ranked = _mixed(pool, candidates[order], config, n_positions, len(candidates))
    place = {int(row): index for index, row in enumerate(candidates)}
    chosen = [int(row) for row in ranked.selection.order if int(row) in place]
    return dataclasses.replace(
        ranked,
        scores={row: float(scored.scores[place[row]]) for row in chosen},
        top_classes={
            row: [
                (int(index), round(float(probability), 4))
                for index, probability in zip(
                    scored.top_classes[place[row]],
                    scored.top_probabilities[place[row]],
                    strict=True,
                )
            ]
            for row in chosen
        },
    )


def _candidates(pool: Pool, config: QueueSettings, seed: int) -> IntArray:
    """Return the rows of the pool the rank budget allows, drawn at random."""
    size = len(pool)
    if config.budget_kind == QueueSettings.Budget.PERCENT:
        size = -(-len(pool) * config.budget_value // 100)
    elif config.budget_kind == QueueSettings.Budget.NUMBER:
        size = min(config.budget_value, len(pool))
    if size >= len(pool):
        return np.arange(len(pool))
    drawn = np.random.default_rng(seed).choice(len(pool), size=size, replace=False)
    return np.sort(drawn)


def _mixed(
    pool: Pool, ranked: IntArray, config: QueueSettings, n_positions: int, n_candidates: int
) -> RankedPool:
    selection = mix_exploration(
        ranked,
        np.argsort(pool.random_keys, kind="stable"),
        share=config.exploration_share,
        n_positions=n_positions,
        pool_size=len(pool),
    )
    return RankedPool(selection, scores={}, top_classes={}, n_candidates=n_candidates)
