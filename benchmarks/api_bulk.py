"""What a program outside moves through the API: predictions, lists and uploads.

python -m benchmarks.api_bulk [--images 10000] [--annotations 100000] [--uploads 1500] [--json]

The client of this repository talks to a whole installation, started as bin/run starts it, with
SQLite and real workers. The rows are generated; the uploaded pictures are drawn and decoded. The
limit of the upload is measured in the same run: the same pictures hashed and decoded, and nothing
else, on as many threads as the server has.
"""

import argparse
import hashlib
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from benchmarks.queue_load.installation import Installation
from benchmarks.setting import finish

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "client"))
from annotator_client import Client, Project  # noqa: E402

CLASSES = 10
AT_ONCE = 5_000
SIDE = 224
# The hundred small pictures a second that are asked for, where the machine can decode them.
UPLOADS_ASKED = 100.0
PREDICTIONS_ASKED_S = 5.0
LISTING_ASKED_S = 20.0
# Pages of the end may take so much longer than those of the beginning.
FLAT = 1.25


def main() -> int:
    """Measure and print; return 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="with predictions")
    parser.add_argument("--annotations", type=int, default=100_000, help="that are listed")
    parser.add_argument("--uploads", type=int, default=1_500, help="pictures that are sent")
    parser.add_argument("--threads", type=int, default=4, help="of the upload")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="annotator-bulk-"))
    try:
        result = measured(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(result)
    finish(result, as_json=options.json)
    return 0 if all(result["met"].values()) else 1


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fill and start an installation, and use it."""
    environment = {
        "ANNOTATOR_DATA_DIR": str(folder / "data"),
        "ANNOTATOR_SECRET_KEY": secrets.token_urlsafe(64),
        "DJANGO_SETTINGS_MODULE": "annotator.settings",
    }
    (folder / "data").mkdir()
    made = seed(options, environment)
    pictures = draw(folder / "pictures", options.uploads)
    installation = Installation(folder / "data", environment)
    try:
        installation.start()
        address = f"http://127.0.0.1:{installation.port}"
        with Client(address, made["token"]) as client:
            listing = lists(client.project(made["labelled"]))
            posted = predictions(client.project(made["open"]), made["open_images"])
            upload = uploads(client.project(made["empty"]), pictures, options.threads)
    finally:
        installation.stop()
    upload["limit_per_s"] = round(decoding_limit(pictures, folder / "decoded"), 1)
    return {
        "images": options.images,
        "annotations": options.annotations,
        "uploads": options.uploads,
        "predictions": posted,
        "listing": listing,
        "upload": upload,
        "met": {
            "predictions": posted["first_s"] <= PREDICTIONS_ASKED_S,
            "listing": listing["all_s"] <= LISTING_ASKED_S,
            "flat": listing["last_tenth_ms"] <= FLAT * listing["first_tenth_ms"],
            "upload": upload["per_s"] >= min(UPLOADS_ASKED, upload["limit_per_s"]),
        },
    }


def seed(options: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    """Write the rows: a labelled project, an open one and an empty one, and a token."""
    os.environ.update(environment)
    os.environ["ANNOTATOR_LOG_LEVEL"] = "ERROR"
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0)
    call_command("createcachetable")
    from django.utils import timezone

    from annotator.accounts.models import Scope, User
    from annotator.accounts.services import create_token

    lead = User.objects.create_user("bench")
    labelled, opened, empty = (_project(lead, name) for name in ("Labelled", "Open", "Empty"))
    _label(labelled, lead, _images(labelled, options.annotations))
    token = create_token(user=lead, name="bench", now=timezone.now(), scope=Scope.MANAGE)
    made = {
        "labelled": labelled.pk,
        "open": opened.pk,
        "empty": empty.pk,
        "open_images": [image.pk for image in _images(opened, options.images)],
        "token": token.secret,
    }
    connections.close_all()
    return made


def _project(lead: Any, name: str) -> Any:
    from annotator.labeling import services as labeling

    return labeling.create_project(
        actor=lead,
        name=name,
        kind="one_class",
        classes=[labeling.ClassSpec(f"class {number}") for number in range(CLASSES)],
    )


def _images(project: Any, n: int) -> list[Any]:
    """Write images that no worker will try to embed."""
    from annotator.labeling.models import Image, Project
    from workqueue.models import Embedding

    keys = [uuid.uuid4() for _ in range(n)]
    images = Image.objects.bulk_create(
        [
            Image(
                project=project, key=key, random_key=Image.random_key_of(key), sha256=key.hex * 2,
                file_name=f"{number:06}.jpg", file_format="jpg", n_bytes=20_000, width=SIDE,
                height=SIDE,
            )
            for number, key in enumerate(keys)
        ],
        batch_size=AT_ONCE,
    )  # fmt: skip
    Embedding.objects.bulk_create(
        [Embedding(image=image, row=0, error="generated") for image in images], batch_size=AT_ONCE
    )
    Project.objects.filter(pk=project.pk).update(n_images=n)
    return images


def _label(project: Any, lead: Any, images: list[Any]) -> None:
    from annotator.labeling.models import Annotation, AnnotationRegion, Image, Project

    classes = list(project.classes.all())
    served = {
        "ranking": 12, "heuristic": "margin", "score": 0.914, "position": 317, "kind": "heuristic",
        "n_candidates": 20_000, "n_pool": 90_000, "model": 12, "explored": False,
        "top_classes": [[classes[0].pk, 0.41], [classes[1].pk, 0.38], [classes[2].pk, 0.09]],
    }  # fmt: skip
    labels = Annotation.objects.bulk_create(
        [Annotation(image=image, author=lead, served=served, seconds=1.4) for image in images],
        batch_size=AT_ONCE,
    )
    AnnotationRegion.objects.bulk_create(
        [
            AnnotationRegion(annotation=label, label_class=classes[number % CLASSES])
            for number, label in enumerate(labels)
        ],
        batch_size=AT_ONCE,
    )
    Image.objects.filter(project=project).update(status=Image.Status.LABELLED)
    Project.objects.filter(pk=project.pk).update(n_labelled=len(images), n_labels=len(images))


def draw(folder: Path, n: int) -> list[Path]:
    """Write small pictures with some detail, as photos have: about 20 kB each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:05}.jpg" for number in range(n)]
    for path in paths:
        coarse = rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)
        smooth = PILImage.fromarray(coarse).resize((SIDE, SIDE), PILImage.Resampling.BICUBIC)
        smooth.save(path, quality=90)
    return paths


def lists(project: Project) -> dict[str, float]:
    """Time every label of a project through the client, and the pages by themselves."""
    total, started = 0, time.perf_counter()
    for _ in project.annotations():
        total += 1
    taken = time.perf_counter() - started
    pages: list[float] = []
    before = time.perf_counter()
    for _ in project.transport.pages(f"projects/{project.id}/annotations/"):
        pages.append(time.perf_counter() - before)
        before = time.perf_counter()
    tenth = max(len(pages) // 10, 1)
    return {
        "n": total,
        "all_s": round(taken, 2),
        "pages": len(pages),
        "first_tenth_ms": round(1000 * statistics.median(pages[:tenth]), 2),
        "last_tenth_ms": round(1000 * statistics.median(pages[-tenth:]), 2),
    }


def predictions(project: Project, images: list[int]) -> dict[str, float]:
    """Time what a model says of many images, for the first time and again."""
    table = np.random.default_rng(1).dirichlet(np.ones(CLASSES), len(images))
    first = _seconds(lambda: project.predict("outside", images, table))
    again = _seconds(lambda: project.predict("outside", images, table[::-1]))
    return {"first_s": round(first, 2), "again_s": round(again, 2)}


def uploads(project: Project, pictures: list[Path], threads: int) -> dict[str, Any]:
    """Time an upload of many small pictures, and the same again, which sends nothing."""
    done: list[Any] = []
    first = _seconds(lambda: done.append(project.upload(pictures, threads=threads)))
    again = _seconds(lambda: done.append(project.upload(pictures, threads=threads)))
    if len(done[0].created) != len(pictures) or len(done[1].duplicates) != len(pictures):
        raise SystemExit(f"not every picture arrived once: {done[0].summary}; {done[1].summary}")
    return {
        "kilobytes": round(sum(path.stat().st_size for path in pictures) / len(pictures) / 1000, 1),
        "per_s": round(len(pictures) / first, 1),
        "known_per_s": round(len(pictures) / again),
    }


def decoding_limit(pictures: list[Path], folder: Path) -> float:
    """Return how many of the pictures a second are hashed and decoded, and nothing else."""
    from django.conf import settings

    from annotator.ingest.sandbox import DecoderPool

    pool = DecoderPool(settings.THREADS)
    folder.mkdir()

    def one(path: Path) -> None:
        hashlib.sha256(path.read_bytes()).hexdigest()
        pool.decode(path, folder / f"{path.stem}-d.jpg", folder / f"{path.stem}-t.jpg")

    with ThreadPoolExecutor(settings.THREADS) as threads:
        list(threads.map(one, pictures[: settings.THREADS * 4]))  # the children start
        taken = _seconds(lambda: list(threads.map(one, pictures)))
    return len(pictures) / taken


def _seconds(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def show(result: dict[str, Any]) -> None:
    """Print the figures."""
    posted, listing, upload = result["predictions"], result["listing"], result["upload"]
    print(f"predictions of {result['images']:,} images, {CLASSES} classes: {posted['first_s']} s, ")
    print(f"  the same images again: {posted['again_s']} s")
    print(f"{listing['n']:,} annotations through the client: {listing['all_s']} s")
    print(
        f"  a page of 200: first tenth {listing['first_tenth_ms']} ms, "
        f"last tenth {listing['last_tenth_ms']} ms"
    )
    print(
        f"{result['uploads']:,} pictures of {upload['kilobytes']} kB: {upload['per_s']} a second; "
        f"hashing and decoding alone {upload['limit_per_s']}, known already {upload['known_per_s']}"
    )
    missed = [name for name, met in result["met"].items() if not met]
    print(f"missed: {', '.join(missed)}" if missed else "every target was met")


if __name__ == "__main__":
    sys.exit(main())
