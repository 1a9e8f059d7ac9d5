"""Print a new API token for a user."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from annotator.accounts import services
from annotator.accounts.models import User


class Command(BaseCommand):
    """``manage.py create_token USER``: the token is printed once and cannot be read again."""

    help = "Create an API token for a user and print it."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("username")
        parser.add_argument("--name", default="command line")

    def handle(self, *_: Any, username: str, name: str, **__: Any) -> None:
        """Create the token.

        Raises:
            CommandError: there is no such user.
        """
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            known = ", ".join(User.objects.values_list("username", flat=True)[:10]) or "nobody yet"
            raise CommandError(f"There is no active user {username!r}. Users: {known}.")
        created = services.create_token(user=user, name=name, now=timezone.now())
        self.stdout.write(created.secret)
