"""The three stores of files, and which of their files the rows of a database name.

Images are immutable, stored before their row is written and never deleted. Segments of embeddings
and fine-tuned networks are immutable too, but background work deletes those that no row needs any
more: they are pinned (hard links) while they are copied.
"""

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage, Storage, default_storage

from annotator.labeling.models import Image
from workqueue.models import ModelVersion, Segment

MODEL_FILE = "model.safetensors"
PIN_PREFIX = ".backup-"
# Longer than any backup takes.
PINS_KEPT_S = 7 * 86_400


def roots() -> dict[str, Path]:
    """Return the local folders whose files can be deleted while a backup runs."""
    return {"embeddings": settings.EMBEDDINGS_ROOT, "models": settings.MODELS_ROOT}


def stores() -> dict[str, Storage]:
    """Return each store by the name its files have in a backup."""
    local = {name: FileSystemStorage(location=root) for name, root in roots().items()}
    return {"media": default_storage, **local}


def images_are_local() -> bool:
    """Return whether images lie in a folder of ours; a bucket has backups of its own."""
    return isinstance(default_storage, FileSystemStorage)


def backed_up() -> dict[str, Storage]:
    """Return the stores a backup holds, and a restore may therefore change."""
    return {
        name: store for name, store in stores().items() if name != "media" or images_are_local()
    }


@dataclass(frozen=True)
class NamedFile:
    """A file some row names, and its hash where the row knows it."""

    store: str
    name: str
    sha256: str = ""

    @property
    def path(self) -> str:
        """Its name in a backup."""
        return f"{self.store}/{self.name}"


def images(using: str) -> Iterator[NamedFile]:
    """Return the originals, renditions and thumbnails of all images, deleted ones included."""
    rows = Image.objects.using(using).only("project_id", "key", "file_format", "sha256")
    for image in rows.order_by("pk").iterator():
        yield NamedFile("media", image.original_name, image.sha256)
        yield NamedFile("media", image.display_name)
        yield NamedFile("media", image.thumbnail_name)


def segments(using: str) -> Iterator[NamedFile]:
    """Return the files of embeddings."""
    for name, sha256 in Segment.objects.using(using).values_list("name", "sha256").order_by("pk"):
        yield NamedFile("embeddings", name, sha256)


def models(using: str) -> Iterator[NamedFile]:
    """Return the weights of each model version's head; other files lie beside them."""
    rows = ModelVersion.objects.using(using).values_list("folder", "sha256")
    for folder, sha256 in rows.order_by("pk"):
        yield NamedFile("models", f"{folder}/{MODEL_FILE}", sha256)


def named_files(using: str) -> Iterator[NamedFile]:
    """Return every file that a row names and a backup holds."""
    if images_are_local():
        yield from images(using)
    yield from segments(using)
    yield from models(using)


@dataclass(frozen=True)
class Pins:
    """Hard links to files that may be deleted meanwhile, and those that were not there."""

    folders: dict[str, Path]
    missing: list[str]

    def files(self) -> Iterator[tuple[str, Path]]:
        """Return name in the backup and place of each pinned file."""
        for store, folder in self.folders.items():
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    yield f"{store}/{path.relative_to(folder).as_posix()}", path


@contextmanager
def pinned(files: Iterable[NamedFile]) -> Iterator[Pins]:
    """Keep the segments and model versions that are named until they have been copied."""
    wanted = list(files)
    folders: dict[str, Path] = {}
    try:
        for store, root in roots().items():
            root.mkdir(parents=True, exist_ok=True)
            _sweep(root)
            folders[store] = Path(tempfile.mkdtemp(prefix=PIN_PREFIX, dir=root))
        missing = [file.path for file in wanted if not _pin(file, folders[file.store])]
        yield Pins(folders, missing)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder)


def _sweep(root: Path) -> None:
    """Delete the pins of a backup that was killed: they would hold their disk space for ever."""
    for pins in root.glob(f"{PIN_PREFIX}*"):
        if pins.stat().st_mtime < time.time() - PINS_KEPT_S:
            shutil.rmtree(pins)


def _pin(file: NamedFile, folder: Path) -> bool:
    """Link a file, and what lies beside a model's weights; return whether it was there."""
    source = roots()[file.store] / file.name
    if not source.is_file():
        return False
    beside = [path.name for path in source.parent.iterdir()] if file.store == "models" else []
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    for name in beside:
        _link(source.with_name(name), target.with_name(name))
    return _link(source, target)


def _link(source: Path, target: Path) -> bool:
    """Link a file unless that was done; return whether it is there."""
    try:
        if not target.exists():
            target.hardlink_to(source)
    except FileNotFoundError:
        return False
    except OSError:
        # A file system without hard links: a copy keeps the file as well.
        shutil.copyfile(source, target)
    return True
