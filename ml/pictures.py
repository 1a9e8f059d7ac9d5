"""Picture files to what a backbone sees."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ml.arrays import FloatArray
from ml.backbones import BackboneSpec

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None]
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)[:, None, None]


def preprocess(image: Image.Image, spec: BackboneSpec) -> FloatArray:
    """Return what the backbone sees of a picture, (3, size, size) float32.

    It sees the largest square in the middle. Leaving a margin off, as classifiers trained on
    ImageNet do, cost about one point of accuracy (docs/benchmarks.md, "What the backbone sees").
    """
    upright = image.convert("RGB")
    width, height = upright.size
    size = spec.input_size
    side = min(width, height)
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
