"""What every format is written from."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from annotator.exports.records import Contents, Record, Wanted, read_records
from annotator.labeling.models import Image

# What ImageFolder opens; pictures of other formats are given as their rendition.
READ_BY_ALL = {"jpg", "jpeg", "png", "bmp", "tiff", "webp"}


@dataclass(frozen=True)
class Picture:
    """The file of an image.

    Attributes:
        stored_name: where it is in the storage of images.
        ending: of its format.
    """

    stored_name: str
    ending: str


@dataclass(frozen=True)
class Source:
    """The records of one moment; they can be gone through again and again.

    Attributes:
        path: the file of records.
        contents: what they hold together.
        wanted: what was asked for.
        project_id: whose images.
        tell: is told of each record; may raise to stop.
    """

    path: Path
    contents: Contents
    wanted: Wanted
    project_id: int
    tell: Callable[[], None]

    def records(self) -> Iterator[Record]:
        """Return the records, by ascending id of their images."""
        for record in read_records(self.path):
            self.tell()
            yield record

    def picture(self, record: Record) -> Picture:
        """Return the file to give for an image."""
        image = Image(
            project_id=self.project_id,
            key=uuid.UUID(record["key"]),
            file_format=record["format"],
        )
        if self.wanted.pictures == "originals" and record["format"] in READ_BY_ALL:
            return Picture(image.original_name, record["format"])
        return Picture(image.display_name, "jpg")


Writer = Callable[[Source, IO[bytes]], None]
