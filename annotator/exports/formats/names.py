"""Names that are safe as files on every system, made of what people call things."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

MOST_BYTES = 120
# What Windows keeps for its devices, whatever their ending.
RESERVED = {"con", "prn", "aux", "nul"} | {
    f"{n}{i}" for n in ("com", "lpt") for i in "123456789¹²³"
}
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def safe_name(text: str, otherwise: str) -> str:
    """Return a text as one segment of a path: NFC, visible, short, no device, no hidden file.

    Args:
        text: what people call it.
        otherwise: the name where nothing is left of it.
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(c for c in composed if unicodedata.category(c) not in _INVISIBLE)
    name = _FORBIDDEN.sub("_", visible).strip()
    name = re.sub(r"^\.+", "_", _shortened(name)).rstrip(". ")
    if not name.strip("_"):
        return otherwise
    return f"_{name}" if name.partition(".")[0].strip().casefold() in RESERVED else name


def _shortened(name: str) -> str:
    return name.encode()[:MOST_BYTES].decode(errors="ignore").strip()


def folder_names(classes: Iterable[dict[str, Any]], *others: str) -> dict[int, str]:
    """Return a folder for each class id; no two differ in upper and lower case alone.

    Args:
        classes: with ``id`` and ``name``.
        others: what else lies beside the folders.
    """
    taken = {name.casefold() for name in others}
    folders = {}
    for entry in classes:
        name = safe_name(entry["name"], f"class-{entry['id']}")
        if name.casefold() in taken:
            name = f"{name}-{entry['id']}"
        while name.casefold() in taken:
            name += "_"
        taken.add(name.casefold())
        folders[entry["id"]] = name
    return folders


def picture_name(file_name: str, image_id: int, ending: str) -> str:
    """Return a name for a picture that no other picture of the export has: it ends in the id."""
    stem = file_name.rpartition(".")[0] or file_name
    return f"{safe_name(stem, 'image')}-{image_id}.{ending}"


def download_name(project: str, export_id: int, what: str, ending: str) -> str:
    """Return what a person saves an export as."""
    return f"{safe_name(project, 'project')}-{export_id}-{what}.{ending}"
