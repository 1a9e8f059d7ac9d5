"""Picture files to embeddings: decoding overlaps the forward pass."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    starts = range(0, len(paths), batch_size)

    def decode(path: Path) -> FloatArray | str:
        try:
            with Image.open(path) as image:
                return preprocess(image, spec)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(decode_threads) as pool:

        def submit(start: int) -> list[object]:
            return [pool.submit(decode, path) for path in paths[start : start + batch_size]]

        waiting = submit(0) if paths else []
        for start in starts:
            decoded = [future.result() for future in waiting]  # type: ignore[attr-defined]
            waiting = submit(start + batch_size) if start + batch_size < len(paths) else []
            good = [index for index, item in enumerate(decoded) if not isinstance(item, str)]
            for index, item in enumerate(decoded):
                if isinstance(item, str):
                    failures[start + index] = item
            if good:
                out = backbone.embed(np.stack([decoded[index] for index in good]))
                half = out.astype(np.float16)
                finite: BoolArray = np.asarray(np.isfinite(half).all(axis=1))
                for place, index in enumerate(good):
                    if finite[place]:
                        kept.append(start + index)
                    else:
                        failures[start + index] = "the embedding is not finite"
                vectors.append(half[finite])
            if on_batch:
                on_batch(min(start + batch_size, len(paths)))
    return EmbeddedFiles(
        vectors=np.concatenate(vectors) if vectors else np.empty((0, spec.dim), np.float16),
        kept=np.array(kept, dtype=np.int64),
        failures=failures,
    )
