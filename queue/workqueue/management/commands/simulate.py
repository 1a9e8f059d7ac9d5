"""Compare heuristics by labeling a known set through the real queue."""

import json
import random
import tempfile
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from annotator.accounts import services as accounts
from annotator.labeling import services as labeling
from workqueue import simulation
from workqueue.curve_plot import Line, draw_curves
from workqueue.models import QueueSettings
from workqueue.oracles import LabelledFile, NoLabelledImagesError, read_oracle


class Command(BaseCommand):
    """``manage.py simulate SET``: prints and plots accuracy against number of labels."""

    help = "Label a known set through the real queue and compare a heuristic with random."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("source", type=Path, help="folder, tar or zip with labelled pictures")
        parser.add_argument(
            "--heuristics",
            nargs="+",
            default=["margin", "random"],
            choices=QueueSettings.Heuristic.values,
        )
        parser.add_argument("--rounds", type=_positive, default=15)
        parser.add_argument("--batch", type=_positive, default=20)
        parser.add_argument("--images", type=_positive, default=1500, help="pool size at most")
        parser.add_argument("--test-images", type=_positive, default=400)
        parser.add_argument(
            "--training",
            default=QueueSettings.Training.HEAD,
            choices=QueueSettings.Training.values,
            help="what is trained; fine_tune takes minutes a round on a CPU",
        )
        parser.add_argument("--budget", type=_positive, help="rank so many images, not the pool")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--plot", type=Path, help="write the plot to this SVG file")
        parser.add_argument("--keep", action="store_true", help="keep the simulated projects")
        parser.add_argument("--json", action="store_true", help="print a JSON object last")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the simulation.

        Raises:
            CommandError: the set cannot be read, or the system did not do its part.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                files = read_oracle(options["source"], unpack_into=Path(folder))
                pool, test = _split(files, options)
                curves = self._compare(pool, test, options)
            except (NoLabelledImagesError, simulation.SimulationError) as error:
                raise CommandError(str(error)) from error
        name = options["source"].name.split(".")[0]
        if options["plot"]:
            options["plot"].write_text(_plot(name, curves, len(test)), encoding="utf-8")
            self.stdout.write(f"plot: {options['plot']}")
        if options["json"]:
            result = {"set": name, "pool": len(pool), "test": len(test)}
            self.stdout.write(json.dumps(result | {"curves": [vars(curve) for curve in curves]}))

    def _compare(
        self, pool: list[LabelledFile], test: list[LabelledFile], options: dict[str, Any]
    ) -> list[simulation.Curve]:
        user = accounts.ensure_robot(username="simulation", name="Simulation")
        self.stdout.write(f"{len(pool)} images to label, {len(test)} to measure on")
        test_set = simulation.build_test_set(test)
        curves = []
        for heuristic in options["heuristics"]:
            self.stdout.write(f"\n{heuristic}\n labels  accuracy  shown on the page      round")
            simulated = simulation.build_project(
                pool, user=user, name=f"Simulation: {heuristic}", say=self._say
            )
            curve = simulation.Curve(heuristic)
            for curve in simulation.run_curve(
                simulated,
                heuristic=heuristic,
                n_rounds=options["rounds"],
                batch_size=options["batch"],
                test=test_set,
                changes=_changes(options),
            ):
                self.stdout.write(_row(curve))
            curves.append(curve)
            if not options["keep"]:
                labeling.delete_project(project=simulated.project, actor=user, now=timezone.now())
        return curves

    def _say(self, sentence: str) -> None:
        self.stderr.write(f"  {sentence}")


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {"training": options["training"]}
    if options["budget"]:
        changes |= {
            "budget_kind": QueueSettings.Budget.NUMBER, "budget_value": options["budget"]
        }  # fmt: skip
    return changes


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ArgumentTypeError("must be at least 1")
    return value


def _split(
    files: list[LabelledFile], options: dict[str, Any]
) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """Return the pool and the test set: the set's own split, or a random fifth."""
    shuffled = sorted(files, key=lambda file: str(file.path))
    random.Random(options["seed"]).shuffle(shuffled)  # noqa: S311 - no secret depends on it
    test = [file for file in shuffled if file.split.lower() == "test"]
    if not test:
        test = shuffled[: max(len(shuffled) // 5, 1)]
    chosen = {file.path for file in test}
    pool = [file for file in shuffled if file.path not in chosen]
    return pool[: options["images"]], test[: options["test_images"]]


def _row(curve: simulation.Curve) -> str:
    shown = curve.shown[-1]
    interval = (
        f"{shown['value']:.0%} ({shown['low']:.0%}-{shown['high']:.0%}, n={shown['n']:.0f})"
        if shown
        else "not enough random labels"
    )
    return (
        f"{curve.n_labels[-1]:7d}  {curve.accuracy[-1]:8.1%}  {interval:22s} "
        f"{curve.seconds[-1]:.2f} s"
    )


def _plot(name: str, curves: list[simulation.Curve], n_test: int) -> str:
    return draw_curves(
        [Line(curve.heuristic, curve.n_labels, curve.accuracy) for curve in curves],
        title=f"{name}: accuracy on {n_test} pictures that were never in the queue",
        x_title="labels given",
        y_title="accuracy",
    )
