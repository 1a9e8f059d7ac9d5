"""Uploads in progress and the per-file results of an import."""

import uuid

from django.conf import settings
from django.db import models


class Upload(models.Model):
    """A large file that arrives in pieces and survives a broken connection (tus 1.0)."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="uploads"
    )
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    file_name = models.CharField(max_length=255)
    length = models.PositiveBigIntegerField()
    offset = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    touched_at = models.DateTimeField(auto_now=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.file_name} {self.offset}/{self.length}"


class Import(models.Model):
    """One zip being unpacked, or one list of web addresses being fetched, by a worker."""

    project = models.ForeignKey(
        "labeling.Project", on_delete=models.CASCADE, related_name="imports"
    )
    upload = models.OneToOneField(
        Upload, on_delete=models.CASCADE, null=True, related_name="import_run"
    )
    urls = models.JSONField(default=list)
    # The external id of each address, empty where it has none; an empty list where none has.
    external_ids = models.JSONField(default=list)
    job = models.OneToOneField(
        "jobs.Job", on_delete=models.SET_NULL, null=True, related_name="import_run"
    )
    n_entries = models.PositiveIntegerField(default=0)
    n_added = models.PositiveIntegerField(default=0)
    n_duplicates = models.PositiveIntegerField(default=0)
    n_refused = models.PositiveIntegerField(default=0)
    n_skipped = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"import {self.pk}"

    @property
    def file_name(self) -> str:
        """What people call it: the name of the zip, or how many addresses it is."""
        n = self.n_entries
        return self.upload.file_name if self.upload else f"{n} address{'' if n == 1 else 'es'}"


class ImportEntry(models.Model):
    """What became of one entry of a zip, or one address; a killed import goes on where it was."""

    class Result(models.TextChoices):
        ADDED = "added"
        DUPLICATE = "duplicate"
        REFUSED = "refused"

    import_run = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="entries")
    position = models.PositiveIntegerField()
    file_name = models.CharField(max_length=255)
    result = models.CharField(max_length=10, choices=Result.choices)
    code = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    image = models.ForeignKey(
        "labeling.Image", on_delete=models.SET_NULL, null=True, related_name="+"
    )

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["import_run", "position"], name="one_result_per_zip_entry"
            )
        ]

    def __str__(self) -> str:
        return f"{self.file_name}: {self.result}"
