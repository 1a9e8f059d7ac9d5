"""The exports that are one JSON text: JSON lines, COCO, Label Studio."""

import json
from collections.abc import Iterable
from itertools import count
from typing import IO, Any

from django.urls import reverse

from annotator.exports.formats.source import Source
from annotator.exports.records import EXTERNAL_ID, HAS_EXTERNAL_ID, Record

# What the annotations of Label Studio name: its labeling configuration must have the same.
CHOICES, PICTURE = "class", "image"


def write_jsonl(source: Source, target: IO[bytes]) -> None:
    """Write everything that is known, a line an image."""
    for record in source.records():
        target.write(_text(record) + b"\n")


def write_coco(source: Source, target: IO[bytes]) -> None:
    """Write COCO without boxes: what most people say of each image."""
    info = {"description": source.contents.project, "version": "1.0"}
    target.write(b'{"info":' + _text(info) + b',"licenses":[],"categories":')
    target.write(_text([_category(entry) for entry in source.contents.classes]))
    target.write(b',"images":')
    _write_list(target, map(_coco_image, source.records()))
    target.write(b',"annotations":')
    numbers = count(1)
    _write_list(
        target,
        (
            {"id": next(numbers), "image_id": record["id"], "category_id": class_id}
            for record in source.records()
            for class_id in (record["consensus"] or {"class_ids": []})["class_ids"]
        ),
    )
    target.write(b"}\n")


def _category(entry: dict[str, Any]) -> dict[str, Any]:
    return {"id": entry["id"], "name": entry["name"], "supercategory": ""}


def _coco_image(record: Record) -> dict[str, Any]:
    return {
        "id": record["id"],
        "file_name": record["file_name"],
        "width": record["width"],
        "height": record["height"],
        "sha256": record["sha256"],
        "chosen": record["chosen"],
        **_external(record),
    }


def _external(record: Record) -> dict[str, Any]:
    return {EXTERNAL_ID: record[EXTERNAL_ID]} if HAS_EXTERNAL_ID else {}


def write_label_studio(source: Source, target: IO[bytes]) -> None:
    """Write Label Studio's list of tasks, each with the annotations of everybody."""
    address = source.wanted.address.rstrip("/")
    _write_list(target, (_task(record, address) for record in source.records()))
    target.write(b"\n")


def _task(record: Record, address: str) -> dict[str, Any]:
    consensus = record["consensus"]
    return {
        "id": record["id"],
        "data": {
            PICTURE: address + reverse("image_file", args=[record["key"], "original"]),
            "file_name": record["file_name"],
            "sha256": record["sha256"],
            "chosen": record["chosen"],
            **_external(record),
        },
        "annotations": [_ls_annotation(record, label) for label in record["labels"]],
        "predictions": [],
        "drafts": [],
        "agreement": 100.0 * consensus["agreement"] if consensus else None,
        "created_at": record["created_at"],
    }


def _ls_annotation(record: Record, label: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": label["id"],
        # Label Studio refuses people it does not know; without one it takes whoever imports.
        "completed_by": None,
        "annotator": label.get("annotator_name", label["annotator"]),
        "result": [
            {
                "id": f"annotation-{label['id']}",
                "type": "choices",
                "value": {"choices": label["classes"]},
                "origin": "manual",
                "from_name": CHOICES,
                "to_name": PICTURE,
            }
        ]
        if label["classes"]
        else [],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": label["at"],
        "updated_at": label["at"],
        "lead_time": label["seconds"],
        "result_count": int(bool(label["classes"])),
        "task": record["id"],
        "parent_prediction": None,
        "parent_annotation": None,
    }


def _write_list(target: IO[bytes], entries: Iterable[dict[str, Any]]) -> None:
    target.write(b"[")
    for number, entry in enumerate(entries):
        target.write((b",\n" if number else b"\n") + _text(entry))
    target.write(b"\n]")


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
