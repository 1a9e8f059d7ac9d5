"""Say what is well and what is not, and what to do next."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

import annotator.operations.checks  # noqa: F401 - fills the registry
from annotator.operations import doctor


class Command(BaseCommand):
    """``manage.py doctor``: one line per check; exit status 1 when one has failed."""

    help = "Check this installation and say what to do next."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--json", action="store_true", help="print one JSON object instead")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run all checks.

        Raises:
            SystemExit: one has failed.
        """
        lines = []
        for name in doctor.names():
            line = doctor.examine(name)
            lines.append(line)
            if not options["json"]:
                self._say(line)
        has_failed = any(line.status == doctor.Status.FAILED for line in lines)
        if options["json"]:
            said = {"ok": not has_failed, "checks": [asdict(line) for line in lines]}
            self.stdout.write(json.dumps(said, indent=1))
        if has_failed:
            raise SystemExit(1)

    def _say(self, line: doctor.Line) -> None:
        self.stdout.write(f"{line.status:8} {line.name:18} {line.text}")
        if line.mend:
            self.stdout.write(f"{'':8} {'':18} -> {line.mend}")
