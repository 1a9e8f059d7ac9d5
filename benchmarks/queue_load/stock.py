"""What both databases share on disk: a few pictures, many links to them, embeddings and a zip.

Image number i (from 1) of the large project has the same key, the same class and the same embedding
whichever database holds its row, so that one folder serves both.
"""

import io
import json
import os
import uuid
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

PICTURES = 8
CLASSES = 10
ROWS_A_SEGMENT = 100_000
DISPLAY_BYTES = 300_000
ZIP_PICTURE_BYTES = 206_000
ZIP_NAME = "pictures.zip"


@dataclass(frozen=True)
class Stock:
    """What there is on disk.

    Attributes:
        folder: where.
        n_images: images of the large project.
        n_drained: images of the small project that is labelled to its end.
        n_worn: images of the project whose ranking's head is done.
        dim: length of an embedding.
        n_zipped: pictures in the zip; 0: no zip.
    """

    folder: Path
    n_images: int
    n_drained: int
    n_worn: int
    dim: int
    n_zipped: int

    @property
    def media(self) -> Path:
        """The media folder of the installation."""
        return self.folder / "media"

    @property
    def embeddings(self) -> Path:
        """The embedding files."""
        return self.folder / "embeddings"

    @property
    def zip(self) -> Path:
        """The zip to import."""
        return self.folder / f"{self.n_zipped}-{ZIP_NAME}"

    @property
    def sizes(self) -> list[int]:
        """Images of each project, in the order of their ids."""
        return [self.n_images, self.n_drained, self.n_worn]

    @property
    def name(self) -> str:
        """What tells it from a stock of another size."""
        return f"{self.n_images}-{self.n_drained}-{self.n_worn}-{self.dim}"

    def segments(self) -> list[dict[str, Any]]:
        """Return name, rows, dim and sha256 of each embedding file."""
        found: list[dict[str, Any]] = json.loads((self.folder / "segments.json").read_text())
        return found


def key_of(number: int, total: int) -> uuid.UUID:
    """Return the key of an image: they ascend, and spread over all folders."""
    return uuid.UUID(int=number * (2**128 // (total + 1)))


def make(stock: Stock) -> None:
    """Make what is not there yet."""
    stock.folder.mkdir(parents=True, exist_ok=True)
    if not (stock.folder / "segments.json").exists():
        _make_embeddings(stock)
    if not (stock.folder / "linked").exists():
        _make_media(stock)
        (stock.folder / "linked").touch()
    if stock.n_zipped and not stock.zip.exists():
        _make_zip(stock)


def _make_embeddings(stock: Stock) -> None:
    """Write embeddings in clusters, one a class, as a backbone would give them."""
    from ml import embedding_store

    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (CLASSES, stock.dim)).astype(np.float32) * 0.35
    written = []
    for start in range(0, stock.n_images, ROWS_A_SEGMENT):
        numbers = np.arange(start, min(start + ROWS_A_SEGMENT, stock.n_images)) + 1
        vectors = rng.standard_normal((len(numbers), stock.dim), dtype=np.float32)
        vectors += centres[numbers % CLASSES]
        written.append(asdict(embedding_store.write_segment(stock.embeddings, vectors)))
    (stock.folder / "segments.json").write_text(json.dumps(written))


def _make_media(stock: Stock) -> None:
    """Give every image a folder that is a link to one of a few real ones."""
    shared = stock.media / "shared"
    for number in range(PICTURES):
        folder = shared / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        display = _jpeg(number, (1600, 1200), DISPLAY_BYTES)
        (folder / "display.jpg").write_bytes(display)
        (folder / "original.jpg").write_bytes(display)
        (folder / "thumbnail.jpg").write_bytes(_jpeg(number, (341, 256), 15_000))
    number = 0
    for project, size in enumerate(stock.sizes, 1):
        root = stock.media / "images" / str(project)
        for part in range(256):
            (root / f"{part:02x}").mkdir(parents=True, exist_ok=True)
        for _ in range(size):
            number += 1
            name = key_of(number, sum(stock.sizes)).hex
            # A million times: Path would take longer than the system does.
            os.symlink(  # noqa: PTH211
                f"../../../shared/{number % PICTURES}", f"{root}/{name[:2]}/{name}"
            )


def _jpeg(seed: int, size: tuple[int, int], n_bytes: int) -> bytes:
    """Return a noisy picture of about so many bytes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    noise = rng.integers(-40, 40, (size[1], size[0], 3), dtype=np.int16)
    smooth = np.asarray(PILImage.fromarray(coarse).resize(size), dtype=np.int16)
    picture = PILImage.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    best = b""
    for quality in range(10, 96, 5):
        written = io.BytesIO()
        picture.save(written, "jpeg", quality=quality)
        if best and len(written.getvalue()) > n_bytes:
            break
        best = written.getvalue()
    return best + b"\0" * max(0, n_bytes - len(best))


def _make_zip(stock: Stock) -> None:
    """Write pictures of 206 kB each; bytes after the end of a JPEG make each another file."""
    pictures = [_jpeg(100 + number, (1024, 768), ZIP_PICTURE_BYTES) for number in range(PICTURES)]
    building = stock.zip.with_suffix(".part")
    with zipfile.ZipFile(building, "w", zipfile.ZIP_STORED) as archive:
        for number in range(stock.n_zipped):
            content = pictures[number % PICTURES] + b"%d" % number
            archive.writestr(f"folder/{number:05d}.jpg", content)
    building.replace(stock.zip)
