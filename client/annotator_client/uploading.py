"""Files to images: several at a time, and only what the server does not have."""

import hashlib
import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator_client.errors import AnnotatorError, InvalidRequestError
from annotator_client.results import FileResult, Image, Uploaded, result_of
from annotator_client.transport import Files, Transport

# Taken from a folder; a file that is named itself is sent whatever it is called.
PICTURES = {
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif",
}  # fmt: skip
ASKED_AT_ONCE = 1000
SENT_AT_ONCE = 16
BYTES_AT_ONCE = 8 * 1024**2

OnResult = Callable[[FileResult], None]
ExternalIdOf = Callable[[Path], str]


@dataclass(frozen=True)
class _Hashed:
    """A file that could be read, with its place among all files."""

    place: int
    path: Path
    sha256: str
    n_bytes: int


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files among the paths, and the pictures in the folders among them.

    Raises:
        AnnotatorError: a folder has no picture in it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = [entry for entry in sorted(path.rglob("*")) if _is_picture(entry, path)]
        if not inside:
            raise AnnotatorError(f"There are no pictures in {path}. Is it the right folder?")
        found += inside
    return found


def _is_picture(path: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in PICTURES and not is_hidden and not path.is_dir()


def upload(
    transport: Transport,
    address: str,
    files: Sequence[Path],
    *,
    threads: int,
    external_id: ExternalIdOf | None = None,
    on_result: OnResult | None = None,
) -> Uploaded:
    """Send the files the server does not have, and return what became of each.

    Args:
        transport: the server.
        address: ``projects/{id}/images/``.
        files: what to send; the same bytes twice are sent once.
        threads: how many requests at once.
        external_id: what another system calls the image of a file; empty for none.
        on_result: called for each file as soon as its result is known.
    """
    run = _Upload(transport, address, external_id, on_result or (lambda _: None))
    pool = ThreadPoolExecutor(max_workers=max(threads, 1), thread_name_prefix="annotator-upload")
    try:
        for start in range(0, len(files), ASKED_AT_ONCE):
            run.send(list(enumerate(files[start : start + ASKED_AT_ONCE], start)), pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return Uploaded([run.results[place] for place in range(len(files))])


class _Upload:
    """One upload under way."""

    def __init__(
        self,
        transport: Transport,
        address: str,
        external_id: ExternalIdOf | None,
        on_result: OnResult,
    ) -> None:
        self.results: dict[int, FileResult] = {}
        self._transport, self._address, self._on_result = transport, address, on_result
        self._external_id = external_id
        self._place_of: dict[str, int] = {}

    def send(self, files: list[tuple[int, Path]], pool: ThreadPoolExecutor) -> None:
        """Send some files, and return when all of them have a result."""
        hashed = []
        for entry in pool.map(lambda file: _hash(*file), files):
            if isinstance(entry, _Hashed):
                hashed.append(entry)
            else:
                self._keep(*entry)
        first, again = self._first_of_each(hashed)
        known = self._known([file.sha256 for file in first])
        for file in first:
            if file.sha256 in known:
                self._keep(file.place, FileResult(file.path, "duplicate"))
        new = [file for file in first if file.sha256 not in known]
        sent = [pool.submit(self._send, group) for group in _groups(new)]
        for done in as_completed(sent):
            for place, result in done.result():
                self._keep(place, result)
        for file in again:
            self._keep(file.place, self._like_the_first(file))

    def _keep(self, place: int, result: FileResult) -> None:
        self.results[place] = result
        self._on_result(result)

    def _first_of_each(self, files: list[_Hashed]) -> tuple[list[_Hashed], list[_Hashed]]:
        """Return the files whose bytes come for the first time, and the others."""
        first: list[_Hashed] = []
        again: list[_Hashed] = []
        for file in files:
            is_first = self._place_of.setdefault(file.sha256, file.place) == file.place
            (first if is_first else again).append(file)
        return first, again

    def _like_the_first(self, file: _Hashed) -> FileResult:
        first = self.results[self._place_of[file.sha256]]
        result = "rejected" if first.result == "rejected" else "duplicate"
        return FileResult(file.path, result, first.image, first.code, first.reason)

    def _known(self, hashes: list[str]) -> set[str]:
        # With names of another system everything is sent: only the server can say whether they fit.
        if not hashes or self._external_id:
            return set()
        asked = {"sha256": hashes}
        return set(self._transport.write("POST", f"{self._address}known/", asked)["known"])

    def _send(self, files: list[_Hashed]) -> list[tuple[int, FileResult]]:
        """Send one request; where it is refused as a whole, each file by itself."""
        parts: Files = []
        sent: list[_Hashed] = []
        results: list[tuple[int, FileResult]] = []
        for file in files:
            try:
                parts.append(("file", (_sent_name(file.path), file.path.read_bytes())))
                sent.append(file)
            except OSError as error:
                results.append((file.place, _unreadable(file.path, error)))
        if not sent:
            return results
        try:
            answer = self._transport.send(
                "POST", self._address, files=parts, fields=self._fields(sent)
            ).json()
            found = list(_results(sent, answer))
        except InvalidRequestError as error:
            refused = FileResult(sent[0].path, "rejected", None, error.code, error.detail)
            found = [(sent[0].place, refused)]
        if len(sent) > 1 and len(found) < len(sent):
            found = [entry for file in sent for entry in self._send([file])]
        return results + found

    def _fields(self, files: list[_Hashed]) -> dict[str, list[str]]:
        if self._external_id is None:
            return {}
        return {"external_id": [self._external_id(file.path) for file in files]}


def _hash(place: int, path: Path) -> _Hashed | tuple[int, FileResult]:
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256")
            return _Hashed(place, path, digest.hexdigest(), opened.tell())
    except OSError as error:
        return place, _unreadable(path, error)


def _unreadable(path: Path, error: OSError) -> FileResult:
    reason = f"This file cannot be read: {error.strerror or error}."
    return FileResult(path, "rejected", None, "unreadable", reason)


def _groups(files: Iterable[_Hashed]) -> Iterator[list[_Hashed]]:
    """Yield the files in groups of a request each."""
    group: list[_Hashed] = []
    n_bytes = 0
    for file in files:
        if group and (len(group) == SENT_AT_ONCE or n_bytes + file.n_bytes > BYTES_AT_ONCE):
            yield group
            group, n_bytes = [], 0
        group.append(file)
        n_bytes += file.n_bytes
    if group:
        yield group


def _sent_name(path: Path) -> str:
    """Return a name that survives the way: valid text, and no path of another system."""
    text = path.name.encode("utf-8", "replace").decode("utf-8").replace("\\", "_")
    # Servers read such a thing as `&amp;` in a name as what it stands for, which may be nothing.
    while (plain := html.unescape(text)) != text:
        text = plain
    return "".join(letter for letter in text if letter.isprintable()) or "unnamed"


def _results(
    files: Sequence[_Hashed], answer: dict[str, list[dict[str, Any]]]
) -> Iterator[tuple[int, FileResult]]:
    for result, rows in (("created", "created"), ("duplicate", "duplicates")):
        for row in answer[rows]:
            file = files[row["index"]]
            yield file.place, FileResult(file.path, result, result_of(Image, row))
    for row in answer["rejected"]:
        file = files[row["index"]]
        yield file.place, FileResult(file.path, "rejected", None, row["code"], row["detail"])
