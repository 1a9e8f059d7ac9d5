"""Put a backup back."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotator.operations.archives import BadBackupError
from annotator.operations.databases import DatabaseToolError
from annotator.operations.restores import AuditError, RestoreRefusedError, restore


class Command(BaseCommand):
    """``manage.py restore FILE``: everything is verified before anything is changed."""

    help = "Replace this installation, which must be stopped, by the one in a backup."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--force", action="store_true", help="also replace an installation that is not empty"
        )

    def handle(self, *_: Any, file: Path, force: bool, **__: Any) -> None:
        """Restore the backup.

        Raises:
            CommandError: it could not be restored; the text says whether anything was changed.
        """
        try:
            manifest = restore(file.resolve(), force=force, say=self.stdout.write)
        except (
            AuditError, BadBackupError, DatabaseToolError, RestoreRefusedError, OSError,
        ) as error:  # fmt: skip
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Restored {len(manifest.files)} files and {sum(manifest.rows.values())} rows of "
            f"{manifest.created_at}; counts and hashes are those of the backup."
        )
