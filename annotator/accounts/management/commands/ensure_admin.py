"""Create the first site admin on a new installation."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from annotator.accounts import services
from annotator.accounts.models import User


class Command(BaseCommand):
    """Does nothing when somebody is there already."""

    help = "Create the first admin when there is no user yet."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--username", default="admin")
        parser.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )

    def handle(self, *_: Any, username: str, password_stdin: bool, **__: Any) -> None:
        """Create the admin and print a generated password once."""
        if User.objects.exists():
            return
        given = sys.stdin.readline().strip() if password_stdin else None
        password = services.create_admin(username=username, password=given)[1]
        self.stdout.write(f"ADMIN_USERNAME={username}")
        if not given:
            self.stdout.write(f"ADMIN_PASSWORD={password}")
