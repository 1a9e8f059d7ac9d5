"""Create the demo project."""

import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from workqueue import demo
from workqueue.oracles import NoLabelledImagesError
from workqueue.simulation import SimulationError


class Command(BaseCommand):
    """``manage.py demo [FOLDER]``: real images, some labels, one trained round, a queue."""

    help = "Create a demo project, half-way through."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "folder", nargs="?", type=Path, help="one sub-folder per class, or a tar or zip of it"
        )

    def handle(self, *_: Any, folder: Path | None, **__: Any) -> None:
        """Create it, unless there is one.

        Raises:
            CommandError: no pictures can be had, or the system did not do its part.
        """
        if demo.exists():
            self.stdout.write("The demo project is there already.")
            return
        self.stdout.write("Making the demo project …")
        with tempfile.TemporaryDirectory() as work:
            try:
                files = demo.demo_files(folder, work=Path(work))
                project = demo.build_demo(files, say=lambda text: self.stdout.write(f"  {text}"))
            except (
                demo.NoDemoImagesError,
                NoLabelledImagesError,
                SimulationError,
            ) as error:
                raise CommandError(str(error)) from error
        self.stdout.write(
            f"The demo is ready: {project.n_labelled} of {project.n_images} images are labelled."
        )
