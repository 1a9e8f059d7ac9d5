"""Embed a picture that is drawn on the spot: whether the backbone can do its work."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from workqueue import learning


class Command(BaseCommand):
    """``manage.py embed_picture``: loads the backbone, so that ``doctor`` need not."""

    help = "Load the backbone and embed a built-in picture."

    def handle(self, *_: Any, **__: Any) -> None:
        """Embed it and print the length of the embedding.

        Raises:
            CommandError: the backbone cannot be loaded, or what it gives is no embedding.
        """
        try:
            length = learning.embed_built_in_picture()
        except learning.BackboneUnavailableError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{learning.BACKBONE}: {length} numbers per image")
