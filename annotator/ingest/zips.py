"""Reading untrusted zip files entry by entry. Nothing is ever extracted to a name of theirs."""

import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO

MAX_ENTRIES = 1_000_000
MAX_DIRECTORY_BYTES = 64 * 1024**2
MAX_RATIO = 200
# Small files may compress better than this without being a bomb.
RATIO_FROM_BYTES = 1024**2
COPY_BYTES = 1024**2
SUPPORTED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
CLUTTER = {".ds_store", "thumbs.db", "desktop.ini"}
ARCHIVES = {".zip", ".7z", ".rar", ".tar", ".gz", ".bz2", ".xz"}
ENCRYPTED = 0x1


class BadZipError(Exception):
    """The archive as a whole cannot be read; ``code`` is stable."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class EntryRefusedError(Exception):
    """One entry is not taken; ``code`` is stable."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    """A file of the archive.

    Attributes:
        position: its place in the archive's directory; stable, so an import can go on there.
        file_name: its whole path, as text only.
        refusal: why it is not taken, if that is known without reading it.
    """

    position: int
    file_name: str
    refusal: EntryRefusedError | None
    info: zipfile.ZipInfo


class SafeZip:
    """An open archive."""

    def __init__(self, path: Path) -> None:
        """Open the archive.

        Raises:
            BadZipError: it is not a zip, is cut short, or has absurdly many entries.
        """
        try:
            _refuse_large_directory(path)
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise BadZipError("bad-zip", f"This is not a readable zip file ({error}).") from error
        infos = self._zip.infolist()
        if len(infos) > MAX_ENTRIES:
            self._zip.close()
            raise BadZipError("too-many-entries", f"More than {MAX_ENTRIES:,} entries.")
        if _overlap(infos):
            self._zip.close()
            raise BadZipError("overlapping-entries", "Entries of this zip share their bytes.")

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()

    def entries(self) -> Iterator[Entry]:
        """Yield the files worth a word; folders and clutter of file managers are left out."""
        seen: set[str] = set()
        for position, info in enumerate(self._zip.infolist()):
            if info.is_dir() or _is_clutter(info.filename):
                continue
            yield Entry(position, info.filename, _refusal(info, seen), info)
            seen.add(info.filename)

    def copy(self, entry: Entry, target: IO[bytes], *, limit: int) -> None:
        """Write an entry's bytes, counting what is really there.

        Raises:
            EntryRefusedError: it is too large, packed too tightly, or broken.
        """
        written = 0
        try:
            with self._zip.open(entry.info) as source:
                while chunk := source.read(COPY_BYTES):
                    written += len(chunk)
                    if written > limit:
                        raise EntryRefusedError("too-large", f"Larger than {limit // 1024**2} MB.")
                    target.write(chunk)
        except EntryRefusedError:
            raise
        except Exception as error:
            # zlib, lzma, bz2 and zipfile have errors of their own for damaged data; an error with
            # a number is the disk's, not the archive's.
            if getattr(error, "errno", None):
                raise
            raise EntryRefusedError("broken-entry", f"It cannot be unpacked ({error}).") from error


def _refuse_large_directory(path: Path) -> None:
    """See how large the directory is before zipfile reads it whole, with an object an entry.

    Raises:
        BadZipError: it is absurdly large.
    """
    with path.open("rb") as file:
        # The only reader of this record, zip64's too, that is known to agree with zipfile.
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end and end[zipfile._ECD_SIZE] > MAX_DIRECTORY_BYTES:  # type: ignore[attr-defined]
        raise BadZipError(
            "too-many-entries", f"Its directory is larger than {MAX_DIRECTORY_BYTES // 1024**2} MB."
        )


def _overlap(infos: list[zipfile.ZipInfo]) -> bool:
    """Return whether entries share bytes, as in bombs that quote one kernel many times."""
    spans = sorted((info.header_offset, info.compress_size) for info in infos)
    return any(start + size > following for (start, size), (following, _) in pairwise(spans))


def _is_clutter(name: str) -> bool:
    parts = [part.lower() for part in PurePosixPath(name.replace("\\", "/")).parts]
    return not parts or "__macosx" in parts or parts[-1] in CLUTTER


def _refusal(info: zipfile.ZipInfo, seen: set[str]) -> EntryRefusedError | None:
    name = info.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    mode = info.external_attr >> 16
    if ".." in parts or name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return EntryRefusedError("unsafe-path", "Its path leads out of the archive.")
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        return EntryRefusedError("not-a-file", "It is a link or a device, not a file.")
    if info.flag_bits & ENCRYPTED:
        return EntryRefusedError("encrypted", "It is encrypted.")
    if info.compress_type not in SUPPORTED:
        return EntryRefusedError("unsupported-compression", "Its compression is not supported.")
    if PurePosixPath(name).suffix.lower() in ARCHIVES:
        return EntryRefusedError("nested-archive", "Archives inside archives are not opened.")
    if info.file_size > RATIO_FROM_BYTES and info.file_size > MAX_RATIO * info.compress_size:
        return EntryRefusedError("zip-bomb", "It is packed too tightly to be a picture.")
    if info.filename in seen:
        return EntryRefusedError("duplicate-name", "Another entry has the same name.")
    return None
