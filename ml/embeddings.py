"""Picture files to embeddings: decoding overlaps the forward pass."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ml.arrays import BoolArray, FloatArray, IntArray
from ml.backbones import Backbone, BackboneSpec

BATCH_SIZE = 32
# The network sees the middle of the picture: its short side but for this margin.
CROP_MARGIN = 32
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None]
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)[:, None, None]


@dataclass(frozen=True)
class EmbeddedFiles:
    """What became of some picture files.

    Attributes:
        vectors: shape (n_kept, dim), float16.
        kept: shape (n_kept,), indices of the files embedded.
        failures: index of a file -> why it has no embedding.
    """

    vectors: FloatArray
    kept: IntArray
    failures: dict[int, str]


def preprocess(image: Image.Image, spec: BackboneSpec) -> FloatArray:
    """Return what the backbone sees of a picture, (3, size, size) float32."""
    upright = image.convert("RGB")
    width, height = upright.size
    size = spec.input_size
    side = min(width, height) * size / (size + CROP_MARGIN)
    left, top = (width - side) / 2, (height - side) / 2
    cropped = upright.resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    pixels = np.asarray(cropped, dtype=np.float32).transpose(2, 0, 1)
    if spec.normalise == "lite":
        return (pixels - 127.0) / 128.0
    return (pixels / 255.0 - IMAGENET_MEAN) / IMAGENET_STD


def decode(path: Path, spec: BackboneSpec) -> FloatArray | str:
    """Return what the backbone sees of a picture file, or why it cannot be read."""
    try:
        with Image.open(path) as image:
            return preprocess(image, spec)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{type(error).__name__}: {error}"


def decode_ahead(
    paths: Sequence[Path],
    spec: BackboneSpec,
    batches: Sequence[Sequence[int]],
    *,
    threads: int = 2,
) -> Iterator[list[FloatArray | str]]:
    """Yield the pictures of batch after batch; the next batch is decoded meanwhile.

    Args:
        paths: the files.
        spec: the backbone that will see them.
        batches: indices of files, any order.
        threads: that decode.
    """
    with ThreadPoolExecutor(threads) as pool:

        def submit(batch: Sequence[int]) -> list[Future[FloatArray | str]]:
            return [pool.submit(decode, paths[index], spec) for index in batch]

        waiting = submit(batches[0]) if batches else []
        for number in range(len(batches)):
            decoded = [future.result() for future in waiting]
            waiting = submit(batches[number + 1]) if number + 1 < len(batches) else []
            yield decoded


def embed_files(
    paths: Sequence[Path],
    backbone: Backbone,
    *,
    batch_size: int = BATCH_SIZE,
    decode_threads: int = 2,
    on_batch: Callable[[int], None] | None = None,
) -> EmbeddedFiles:
    """Embed picture files; one that cannot be read never stops the others.

    Args:
        paths: the files.
        backbone: what embeds them.
        batch_size: pictures per forward pass.
        decode_threads: threads that decode the next batch meanwhile.
        on_batch: called with the number of files done after each batch; may raise to stop.
    """
    spec = backbone.spec
    kept: list[int] = []
    vectors: list[FloatArray] = []
    failures: dict[int, str] = {}
    batches = [
        range(start, min(start + batch_size, len(paths)))
        for start in range(0, len(paths), batch_size)
    ]
    decoded_batches = decode_ahead(paths, spec, batches, threads=decode_threads)
    for batch, decoded in zip(batches, decoded_batches, strict=True):
        pictures = {}
        for index, item in zip(batch, decoded, strict=True):
            if isinstance(item, str):
                failures[index] = item
            else:
                pictures[index] = item
        if pictures:
            half = backbone.embed(np.stack(list(pictures.values()))).astype(np.float16)
            finite: BoolArray = np.asarray(np.isfinite(half).all(axis=1))
            for index, is_finite in zip(pictures, finite.tolist(), strict=True):
                if is_finite:
                    kept.append(index)
                else:
                    failures[index] = "the embedding is not finite"
            vectors.append(half[finite])
        if on_batch:
            on_batch(batch.stop)
    return EmbeddedFiles(
        vectors=np.concatenate(vectors) if vectors else np.empty((0, spec.dim), np.float16),
        kept=np.array(kept, dtype=np.int64),
        failures=failures,
    )
