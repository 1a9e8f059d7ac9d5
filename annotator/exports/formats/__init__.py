"""The formats: one function each, which writes the records of a moment for another program."""

from dataclasses import dataclass

from annotator.exports.formats.archives import write_folders, write_huggingface
from annotator.exports.formats.documents import write_coco, write_jsonl, write_label_studio
from annotator.exports.formats.source import Source, Writer
from annotator.exports.formats.tables import write_csv
from annotator.exports.models import Export

__all__ = ["FORMATS", "Format", "Source"]


@dataclass(frozen=True)
class Format:
    """One way to write an export.

    Attributes:
        name: as the API calls it.
        title: as people call it.
        text: what it is good for, in a sentence.
        ending: of the file.
        mime: its type.
        write: writes it.
        passes: how often it goes through the records.
        has_pictures: whether the pictures are in it.
        needs_one_class: whether an image must have exactly one class.
    """

    name: str
    title: str
    text: str
    ending: str
    mime: str
    write: Writer
    passes: int = 1
    has_pictures: bool = False
    needs_one_class: bool = False


_ALL = [
    Format(
        Export.Format.CSV, "CSV", "A table with a row for each label, for a spreadsheet or pandas.",
        "csv", "text/csv; charset=utf-8", write_csv,
    ),
    Format(
        Export.Format.JSONL, "JSON lines", "Everything known of each image, and why it was served.",
        "jsonl", "application/x-ndjson", write_jsonl,
    ),
    Format(
        Export.Format.COCO, "COCO", "Images, categories and annotations in one JSON text.",
        "json", "application/json", write_coco, passes=2,
    ),
    Format(
        Export.Format.LABEL_STUDIO, "Label Studio", "Tasks with the choices of everybody.",
        "json", "application/json", write_label_studio,
    ),
    Format(
        Export.Format.FOLDERS, "Folders", "A zip with one folder of pictures for each class.",
        "zip", "application/zip", write_folders, has_pictures=True, needs_one_class=True,
    ),
    Format(
        Export.Format.HUGGINGFACE, "Hugging Face", "A zip of pictures with metadata.jsonl.",
        "zip", "application/zip", write_huggingface, has_pictures=True,
    ),
]  # fmt: skip
FORMATS: dict[str, Format] = {str(entry.name): entry for entry in _ALL}
