"""Create the triggers of the history anew."""

from typing import Any

from django.core.management.base import BaseCommand

from annotator.events import history


class Command(BaseCommand):
    """``manage.py protect_history``: mends what the doctor's check *history* has found."""

    help = "Create the triggers anew that keep the history from being changed."

    def handle(self, *_: Any, **__: Any) -> None:
        """Create them, and say which were missing."""
        missing = history.missing_triggers()
        history.protect()
        self.stdout.write(f"Created: {', '.join(missing)}." if missing else "None was missing.")
