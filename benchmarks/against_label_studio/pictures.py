"""The pictures both programs get: photographs of clothing, or generated ones."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from benchmarks.queue_load.installation import ROOT

sys.path.insert(0, str(ROOT / "queue"))
from workqueue.oracles import read_oracle

SET = "clothing10.tar"
DEFAULT_DATA = ROOT.parent / "shared" / "data"
GENERATED_CLASSES = 10
GENERATED_SIDE = 224


@dataclass(frozen=True)
class Picture:
    """A file and what somebody will say of it."""

    file: Path
    class_name: str


def pictures(n: int, folder: Path) -> tuple[list[Picture], str]:
    """Return so many pictures with names of their own, and in words what they are.

    Args:
        n: how many; a set that has fewer gives all it has.
        folder: an empty one to write them into.
    """
    archive = Path(os.environ.get("ANNOTATOR_TEST_DATA", DEFAULT_DATA)) / SET
    if not archive.exists():
        return [_generated(number, folder) for number in range(n)], (
            f"generated pictures of {GENERATED_SIDE} px, because {archive.name} is not there"
        )
    labelled = read_oracle(archive, unpack_into=folder / "unpacked")
    order = np.random.default_rng(0).permutation(len(labelled))
    # Annotator keeps the same bytes once, Label Studio as often as they come.
    different = {labelled[index].path.read_bytes(): labelled[index] for index in order.tolist()}
    found = []
    for number, (content, source) in enumerate(list(different.items())[:n]):
        # Names that tell the pictures apart in both programs.
        file = folder / f"{number:05d}{source.path.suffix}"
        file.write_bytes(content)
        found.append(Picture(file, source.class_name))
    return found, f"photographs of clothing ({archive.name})"


def _generated(number: int, folder: Path) -> Picture:
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = folder / f"{number:05d}.jpg"
    PILImage.fromarray(coarse).resize((GENERATED_SIDE, GENERATED_SIDE)).save(file, quality=90)
    return Picture(file, f"class {number % GENERATED_CLASSES}")


def predictions(found: list[Picture], classes: list[str]) -> dict[str, list[float]]:
    """Return what a model outside says: file name -> probabilities, no two equally sure."""
    rng = np.random.default_rng(1)
    surest = rng.permutation(np.linspace(0.2, 0.98, len(found)))
    said = {}
    for picture, top in zip(found, surest.tolist(), strict=True):
        rest = (1 - top) / (len(classes) - 1)
        favourite = int(rng.integers(len(classes)))
        said[picture.file.name] = [
            top if place == favourite else rest for place in range(len(classes))
        ]
    return said


def most_uncertain_first(said: dict[str, list[float]]) -> list[str]:
    """Return the file names in the order least confidence asks for."""
    return sorted(said, key=lambda name: max(said[name]))
