"""The file a backup is: a plain tar of files and, last, a manifest with the hash of each.

Nothing is ever extracted by the names the tar holds: only regular files that the manifest lists
are read, and a manifest lists nothing outside the stores.
"""

import hashlib
import json
import os
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

MANIFEST = "manifest.json"
FORMAT = 1
COPY_BYTES = 1024**2
TOP_LEVEL = {"database", "media", "embeddings", "models"}


class BadBackupError(Exception):
    """The file is no backup, or not the one that was written; the text says why."""


@dataclass(frozen=True)
class Entry:
    """Size and hash of a file."""

    n_bytes: int
    sha256: str


@dataclass
class Manifest:
    """What a backup holds.

    Attributes:
        version: of the product that wrote it.
        created_at: when the database was read.
        vendor: ``sqlite`` or ``postgresql``.
        has_images: not when they lay in a bucket, which has backups of its own.
        migrations: all that were applied, as ``app.name``.
        rows: table -> number of rows.
        files: name -> size and hash.
        missing: files that rows named and that were gone before the backup began.
    """

    version: str
    created_at: str
    vendor: str
    has_images: bool
    migrations: list[str]
    rows: dict[str, int]
    files: dict[str, Entry] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    format: int = FORMAT

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            BadBackupError: it is none, of another format, or names files outside the stores.
        """
        try:
            said: dict[str, Any] = json.loads(text)
            files = {name: Entry(**entry) for name, entry in said.pop("files").items()}
            manifest = cls(**said, files=files)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadBackupError(f"The backup's manifest cannot be read: {error}") from error
        if manifest.format != FORMAT:
            raise BadBackupError(
                f"The backup has format {manifest.format}; this version reads format {FORMAT}."
            )
        for name in files:
            _check_name(name)
        return manifest


def _check_name(name: str) -> None:
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or parts[0] not in TOP_LEVEL or ".." in parts or name != "/".join(parts):
        raise BadBackupError(f"The backup names a file outside its stores: {name!r}")


class _Hashed:
    """Reads on behalf of the tar, and hashes what goes by."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(size)
        self._digest.update(piece)
        return piece

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class Writer:
    """Adds files to a backup, noting the size and hash of each in the manifest."""

    def __init__(self, tar: tarfile.TarFile, manifest: Manifest) -> None:
        self._tar = tar
        self.manifest = manifest

    def add(self, name: str, source: IO[bytes], n_bytes: int) -> None:
        """Copy a file into the backup."""
        hashed = _Hashed(source)
        self._tar.addfile(_member(name, n_bytes), hashed)
        self.manifest.files[name] = Entry(n_bytes, hashed.hexdigest())

    def add_path(self, name: str, path: Path) -> None:
        """Copy a local file into the backup."""
        with path.open("rb") as source:
            self.add(name, source, path.stat().st_size)


def _member(name: str, n_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = n_bytes, 0o600
    return member


@contextmanager
def written(target: Path, manifest: Manifest) -> Iterator[Writer]:
    """Write a backup beside its place, readable by its owner alone; renamed once it is complete."""
    building = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                yield Writer(tar, manifest)
                _add_manifest(tar, building.with_name(f"{building.name}.json"), manifest)
            file.flush()
            os.fsync(file.fileno())
        building.replace(target)
    finally:
        building.unlink(missing_ok=True)
    sync_folder(target.parent)


def _add_manifest(tar: tarfile.TarFile, path: Path, manifest: Manifest) -> None:
    try:
        path.write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
        with path.open("rb") as source:
            tar.addfile(_member(MANIFEST, path.stat().st_size), source)
    finally:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Reader:
    """Reads the files of a backup that its manifest lists."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {member.name: member for member in tar.getmembers()}
        if len(self._members) != len(tar.getmembers()):
            raise BadBackupError("The backup holds two files of one name.")
        if MANIFEST not in self._members:
            raise BadBackupError("This is no backup, or one that was not completed: no manifest.")
        with self._open(MANIFEST) as said:
            self.manifest = Manifest.from_json(said.read())

    def _open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        opened = self._tar.extractfile(member) if member and member.isreg() else None
        if opened is None:
            raise BadBackupError(f"The backup lacks the file {name}.")
        return opened

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file of the backup."""
        if name not in self.manifest.files:
            raise BadBackupError(f"The backup's manifest does not list {name}.")
        with self._open(name) as opened:
            yield opened

    def verify(self) -> None:
        """Read the whole backup and compare every file with the manifest.

        Raises:
            BadBackupError: a file is missing, altered, or not listed.
        """
        unlisted = self._members.keys() - self.manifest.files.keys() - {MANIFEST}
        if unlisted:
            raise BadBackupError(f"The backup holds a file nobody listed: {min(unlisted)}")
        for name, entry in self.manifest.files.items():
            with self.open(name) as opened:
                if hash_of(opened) != entry:
                    raise BadBackupError(
                        f"{name} is not what was backed up: the file was damaged or altered. "
                        "Nothing was changed; use another backup."
                    )


def hash_of(source: IO[bytes]) -> Entry:
    """Return size and hash of what can be read."""
    digest, n_bytes = hashlib.sha256(), 0
    while piece := source.read(COPY_BYTES):
        digest.update(piece)
        n_bytes += len(piece)
    return Entry(n_bytes, digest.hexdigest())


@contextmanager
def opened(file: Path) -> Iterator[Reader]:
    """Open a backup.

    Raises:
        BadBackupError: it is none, or cut short.
    """
    try:
        with tarfile.open(file, mode="r:") as tar:
            yield Reader(tar)
    except tarfile.TarError as error:
        raise BadBackupError(f"{file} is no backup, or was cut short: {error}") from error
