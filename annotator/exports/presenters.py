"""The JSON of exports."""

from typing import Any

from django.urls import reverse

from annotator.exports.models import Export
from annotator.exports.records import Wanted


def present_export(export: Export) -> dict[str, Any]:
    """Return how far an export is, and what is in it once it is written."""
    job, wanted, contents = export.job, Wanted.of(export.options), export.contents
    place = [export.project_id, export.pk]
    return {
        "id": export.pk,
        "format": export.format,
        "filters": {
            "images": wanted.images,
            "class_ids": list(wanted.class_ids),
            "chosen": wanted.chosen or None,
        },
        "history": wanted.history,
        "names": wanted.names,
        "pictures": wanted.pictures,
        "state": export.state,
        "progress": {
            "done": job.progress_done if job else 0,
            "total": job.progress_total if job else 0,
            "message": job.message if job else "",
        },
        "error": job.error if job and not export.is_ready else "",
        "as_of": contents.get("as_of"),
        "n_images": contents.get("n_images"),
        "n_labels": contents.get("n_labels"),
        "n_random": contents.get("n_random"),
        "n_of_class": contents.get("n_of_class"),
        "file_name": export.file_name or None,
        "n_bytes": export.n_bytes if export.is_ready else None,
        "sha256": export.sha256 or None,
        "download_url": reverse("api:export_download", args=place) if export.is_ready else None,
        "created_by": export.created_by.shown_name if export.created_by else None,
        "created_at": export.created_at.isoformat(),
        "finished_at": _time(export.finished_at),
        "expires_at": _time(export.expires_at),
    }


def _time(moment: Any) -> str | None:
    return moment.isoformat() if moment else None
