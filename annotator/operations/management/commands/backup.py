"""Write a backup of the whole installation."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from annotator.operations.backups import BackupRefusedError, back_up, place_for
from annotator.operations.databases import DatabaseToolError

NAMED_AT_MOST = 10


class Command(BaseCommand):
    """``manage.py backup FILE_OR_FOLDER``: everything, while people label."""

    help = "Write a backup of the whole installation into one file, while it runs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "target",
            type=Path,
            metavar="FILE_OR_FOLDER",
            help="a file that does not exist yet, or a folder for one named after the time",
        )

    def handle(self, *_: Any, target: Path, **__: Any) -> None:
        """Write the backup.

        Raises:
            CommandError: it could not be written; no file is left.
        """
        now = timezone.now()
        file = place_for(target.resolve(), now=now)
        try:
            manifest = back_up(file, now=now, say=self.stdout.write)
        except (BackupRefusedError, DatabaseToolError, OSError) as error:
            raise CommandError(str(error)) from error
        for name in manifest.missing[:NAMED_AT_MOST]:
            self.stderr.write(f"Missing before the backup, so not in it: {name}")
        size = file.stat().st_size / 1024**2
        self.stdout.write(
            f"{file}: {len(manifest.files)} files, {sum(manifest.rows.values())} rows, "
            f"{size:.1f} MB, {len(manifest.missing)} files missing."
        )
        self.stdout.write(
            "Not in it: the secret key, settings of the environment, uploads underway."
        )
        if not manifest.has_images:
            self.stdout.write(
                "Nor are the images: they are in the bucket. Keep versions or a copy of that, "
                "at least as new as this backup."
            )
