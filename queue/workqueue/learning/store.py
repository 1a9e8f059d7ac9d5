"""The embedding store: images in, segments of embeddings out."""

import dataclasses
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage
from PIL import Image as PILImage

from annotator.labeling.models import Image
from ml import backbones, embedding_store, embeddings
from workqueue.models import Segment

BACKBONE = settings.BACKBONE
TornSegmentError = embedding_store.TornSegmentError
BackboneUnavailableError = backbones.BackboneUnavailableError


def warm_up() -> None:
    """Load torch and the backbone before the first job asks for them."""
    torch.set_num_threads(settings.THREADS)
    backbone()


@lru_cache(maxsize=1)
def backbone() -> backbones.Backbone:
    """Return the frozen backbone, loaded once per process."""
    return backbones.load_backbone(BACKBONE, cache_dir=settings.BACKBONES_ROOT)


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
    with tempfile.TemporaryDirectory() as folder:
        paths = [local_file(image.thumbnail_name, Path(folder)) for image in images]
        embedded = embeddings.embed_files(
            paths, backbone(), threads=settings.THREADS, on_batch=on_batch
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
    embedded = embeddings.embed_files(list(paths), backbone(), threads=settings.THREADS)
    return embedded.vectors, [int(index) for index in embedded.kept]


def embed_built_in_picture() -> int:
    """Embed a picture drawn on the spot and return the length of its embedding.

    Raises:
        BackboneUnavailableError: the backbone cannot be loaded or gives nothing to work with.
    """
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        PILImage.linear_gradient("L").save(picture)
        vectors, _ = embed_paths([picture])
    expected = (1, backbones.BACKBONES[BACKBONE].dim)
    if vectors.shape != expected or not np.isfinite(vectors).all() or not vectors.any():
        raise BackboneUnavailableError(f"{BACKBONE} gives no usable embedding.")
    return int(vectors.shape[1])


def local_file(name: str, folder: Path) -> Path:
    """Return a local path of a stored file, fetched into the folder from a bucket."""
    if isinstance(default_storage, FileSystemStorage) or hasattr(default_storage, "location"):
        local = Path(str(getattr(default_storage, "location", ""))) / name
        if local.is_absolute():
            return local
    fetched = folder / f"{uuid.uuid4().hex}.jpg"
    # Who reads it finds that a missing file is missing; the other files go on.
    with suppress(FileNotFoundError), default_storage.open(name) as stored:
        fetched.write_bytes(stored.read())
    return fetched


def compact(
    keep: Mapping[str, Sequence[int]],
) -> tuple[embedding_store.Segment, list[tuple[str, int]]]:
    """Write the rows worth keeping of some segments into a new one.

    Args:
        keep: segment name -> rows to keep.

    Returns:
        The new segment and, for each of its rows, the segment and row it came from.
    """
    origins = [(name, row) for name, rows in keep.items() for row in rows]
    vectors = embedding_store.gather(settings.EMBEDDINGS_ROOT, embedding_store.Places.of(origins))
    return embedding_store.write_segment(settings.EMBEDDINGS_ROOT, vectors), origins


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
