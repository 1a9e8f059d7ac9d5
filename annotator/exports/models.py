"""Exports: files of what was said of a project's images at one moment."""

import uuid
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import models

from annotator.jobs.models import Job


class Export(models.Model):
    """One file for other programs, written by a worker and kept for some days."""

    class Format(models.TextChoices):
        CSV = "csv", "CSV"
        JSONL = "jsonl", "JSON lines"
        COCO = "coco", "COCO"
        FOLDERS = "folders", "Folders"
        HUGGINGFACE = "huggingface", "Hugging Face"
        LABEL_STUDIO = "label_studio", "Label Studio"

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="exports"
    )
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    job = models.OneToOneField(
        "jobs.Job", on_delete=models.SET_NULL, null=True, related_name="export"
    )
    format = models.CharField(max_length=12, choices=Format.choices)
    options = models.JSONField(default=dict, help_text="which images, and what of them")
    stored_name = models.CharField(max_length=80, blank=True, help_text="empty until it is written")
    file_name = models.CharField(max_length=200, blank=True, help_text="what people save it as")
    sha256 = models.CharField(max_length=64, blank=True)
    n_bytes = models.PositiveBigIntegerField(default=0)
    # What the file holds: the moment it is of, and counts.
    contents = models.JSONField(default=dict)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"export {self.pk} ({self.format})"

    @property
    def is_ready(self) -> bool:
        """Whether there is a file to download."""
        return bool(self.stored_name)

    @property
    def state(self) -> str:
        """What became of its job; one that is lost has failed."""
        if self.is_ready:
            return Job.State.DONE
        return self.job.state if self.job else Job.State.FAILED

    @property
    def is_open(self) -> bool:
        """Whether it still waits or is being written."""
        return self.state in {Job.State.QUEUED, Job.State.RUNNING}

    @property
    def expires_at(self) -> datetime | None:
        """When it is swept."""
        return self.finished_at + kept_for() if self.finished_at else None

    @property
    def path(self) -> Path:
        """Where its file is."""
        root: Path = settings.EXPORTS_ROOT
        return root / self.stored_name


def kept_for() -> timedelta:
    """Return how long a finished export is kept."""
    return timedelta(days=settings.EXPORT_DAYS)
