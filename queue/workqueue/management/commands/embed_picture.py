"""Embed a picture that is drawn on the spot: whether the backbone can do its work."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError
from PIL import Image

from ml.backbones import BackboneUnavailableError
from workqueue import learning

SIDE = 256


class Command(BaseCommand):
    """``manage.py embed_picture``: loads the backbone, so that ``doctor`` need not."""

    help = "Load the backbone and embed a built-in picture."

    def handle(self, *_: Any, **__: Any) -> None:
        """Embed it and print the length of the embedding.

        Raises:
            CommandError: the backbone cannot be loaded, or what it says is no number.
        """
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "picture.png"
            Image.linear_gradient("L").resize((SIDE, SIDE)).save(picture)
            try:
                vectors, kept = learning.embed_paths([picture])
            except BackboneUnavailableError as error:
                raise CommandError(str(error)) from error
        if len(kept) != 1 or not np.isfinite(vectors).all() or not np.any(vectors):
            raise CommandError(f"{learning.BACKBONE} gives no usable embedding.")
        self.stdout.write(f"{learning.BACKBONE}: {vectors.shape[1]} numbers per image")
