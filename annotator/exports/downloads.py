"""Streaming a file so that a download that was cut off goes on where it stopped."""

import re
from pathlib import Path
from typing import IO

from django.http import FileResponse

from annotator.api.problems import Problem


class _Piece:
    """The next so many bytes of a file."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int = -1) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        piece = self._file.read(size)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._file.close()


def download(
    path: Path, *, name: str, mime: str, version: str, wanted: str = "", if_version: str = ""
) -> FileResponse:
    """Answer with a file, or with the part of it a client still lacks.

    Args:
        path: the file.
        name: what people save it as.
        mime: its type.
        version: changes with its bytes.
        wanted: the header ``Range``; several ranges at once are answered with the whole file.
        if_version: the header ``If-Range``; of another version the client gets the whole file.

    Raises:
        FileNotFoundError: it is gone.
        Problem: 416, the file is not that long.
    """
    size, etag = path.stat().st_size, f'"{version}"'
    first, last = _range(wanted if if_version in {"", etag} else "", size)
    file = path.open("rb")
    file.seek(first)
    answer = FileResponse(
        _Piece(file, last - first + 1), as_attachment=True, filename=name, content_type=mime
    )
    answer["Content-Length"] = str(last - first + 1)
    answer["Accept-Ranges"] = "bytes"
    answer["ETag"] = etag
    if last - first + 1 < size:
        answer.status_code = 206
        answer["Content-Range"] = f"bytes {first}-{last}/{size}"
    return answer


def _range(wanted: str, size: int) -> tuple[int, int]:
    """Return the first and the last byte to send; what cannot be read means all of them."""
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", wanted.strip())
    if not found or found.groups() == ("", ""):
        return 0, size - 1
    begin, end = found.groups()
    first = int(begin) if begin else max(0, size - int(end))
    last = min(int(end), size - 1) if begin and end else size - 1
    if first >= size or (not begin and not int(end)):
        raise Problem(416, "range-not-satisfiable", f"The file has {size} bytes.")
    return (first, last) if first <= last else (0, size - 1)
