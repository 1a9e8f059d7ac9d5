"""Print a new API token for a user."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from annotator.accounts import services
from annotator.accounts.models import Scope, User


class Command(BaseCommand):
    """``manage.py create_token USER``: the token is printed once and cannot be read again."""

    help = "Create an API token for a user and print it."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("username")
        parser.add_argument("--name", default="command line")
        parser.add_argument("--scope", default="manage", choices=["read", "annotate", "manage"])
        parser.add_argument("--days", type=int, help="how long it works; for ever when left out")

    def handle(
        self, *_: Any, username: str, name: str, scope: str, days: int | None, **__: Any
    ) -> None:
        """Create the token.

        Raises:
            CommandError: there is no such user, or the number of days makes no sense.
        """
        people = User.objects.filter(service_of=None)
        user = people.filter(username=username, is_active=True).first()
        if user is None:
            known = ", ".join(people.values_list("username", flat=True)[:10]) or "nobody yet"
            raise CommandError(f"There is no active user {username!r}. Users: {known}.")
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("--days must be from 1 to 3650.")
        created = services.create_token(
            user=user,
            name=name,
            now=timezone.now(),
            scope=Scope[scope.upper()],
            lifetime=timedelta(days=days) if days else None,
        )
        self.stdout.write(created.secret)
