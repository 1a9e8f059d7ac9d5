"""Seconds from the last label of a batch to the new order being served.

python -m benchmarks.round_trip [--pool 10000] [--labels 1000] [--repeats 3] [--json]

A real learning worker with its warm process, the embedded broker and SQLite, as bin/run starts
them; embeddings are synthetic, everything else is real.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks.setting import finish, set_up

CLASSES = 10
DIM = 1280


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pool", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = set_up()
    worker = start_worker(folder)
    try:
        result = measure(options.pool, options.labels, options.repeats)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=30)
    print(f"{options.pool} images in the pool, {options.labels} labels, {CLASSES} classes")
    print(f"  last label -> new order served: {result['seconds']} s, median {result['median']} s")
    print(f"  inside the round, by step: {result['steps']}")
    finish(result, as_json=options.json)


def start_worker(folder: Path) -> "subprocess.Popen[bytes]":
    """Start the learning worker and wait until it is warm."""
    log = (folder / "worker.log").open("wb")
    worker = subprocess.Popen(
        [str(Path(sys.executable).parent / "celery"), "-A", "annotator", "worker",
         "-Q", "train,embed", "--concurrency", "1"],
        env={**os.environ, "ANNOTATOR_WORKER": "learning", "OMP_NUM_THREADS": "2",
             "ANNOTATOR_LOG_LEVEL": "INFO"},
        stdout=log, stderr=log, cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    time.sleep(15)
    return worker


def measure(n_pool: int, n_labels: int, repeats: int) -> dict[str, Any]:
    """Label batch after batch and time the last label of each."""
    import numpy as np

    from annotator.accounts.models import User
    from annotator.clock import database_now
    from annotator.labeling import services as labeling
    from annotator.labeling.models import Image, Project
    from ml import embedding_store
    from workqueue import services
    from workqueue.models import Embedding, Round, Segment
    from workqueue.requests import state_of

    user = User.objects.create_user("bench")
    project = labeling.create_project(
        actor=user,
        name="Round trip",
        kind="one_class",
        classes=[labeling.ClassSpec(f"class {i}") for i in range(CLASSES)],
    )
    classes = list(project.classes.all())
    total = n_pool + n_labels + 20 * (repeats + 1)
    keys = [uuid.uuid4() for _ in range(total)]
    images = Image.objects.bulk_create(
        [
            Image(
                project=project, key=key, random_key=Image.random_key_of(key), sha256=key.hex * 2,
                file_name=f"{i}.jpg", file_format="jpg", n_bytes=1, width=1, height=1,
            )
            for i, key in enumerate(keys)
        ],
        batch_size=500,
    )  # fmt: skip
    Project.objects.filter(pk=project.pk).update(n_images=total)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, total)
    centres = rng.normal(0, 1, (CLASSES, DIM))
    vectors = centres[truth] * 0.35 + rng.normal(0, 1, (total, DIM))
    from django.conf import settings

    stored = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, vectors)
    segment = Segment.objects.create(
        project=project, backbone="efficientnet_lite0", name=stored.name, n_rows=total, dim=DIM,
        sha256=stored.sha256,
    )  # fmt: skip
    Embedding.objects.bulk_create(
        [Embedding(image=image, segment=segment, row=row) for row, image in enumerate(images)],
        batch_size=500,
    )
    class_of = {image.pk: classes[truth[row]].pk for row, image in enumerate(images)}

    def label() -> None:
        (lease,) = services.claim(user=user, project=project, n=1, now=database_now()).leases
        services.submit(
            user=user, project=project, key=uuid.uuid4().hex, lease_token=str(lease.token),
            class_ids=[class_of[lease.image_id]], now=database_now(),
        )  # fmt: skip

    services.change_settings(project=project, actor=user, changes={"batch_size": 10_000})
    for _ in range(n_labels - 20):
        label()
    services.change_settings(project=project, actor=user, changes={"batch_size": 20})
    label()
    wait_for_round(Round, project, 1)
    seconds: list[float] = []
    steps: dict[str, float] = {}
    for number in range(2, repeats + 2):
        for _ in range(19):
            label()
        before = state_of(project).ranking
        started = time.perf_counter()
        label()
        while state_of(project).ranking == before:
            time.sleep(0.005)
        seconds.append(round(time.perf_counter() - started, 3))
        steps = wait_for_round(Round, project, number).seconds
    return {"seconds": seconds, "median": round(statistics.median(seconds), 3), "steps": steps}


def wait_for_round(model: Any, project: Any, number: int) -> Any:
    """Return the round once it is done."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = model.objects.filter(project=project, number=number, state="done").first()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"round {number} did not end; see the worker's log")


if __name__ == "__main__":
    main()
