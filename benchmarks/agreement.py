"""Whether the real queue does what the offline benchmark says: the same pool labelled both ways.

python -m benchmarks.agreement [--source FOLDER_OR_ARCHIVE] [--seeds 10] [--labels 300] [--json]

Through the queue: real projects, claims, submits and rounds, with the settings of a new project.
Offline: ``ml.replay``, as ``label_efficiency`` runs it. Both see the same embeddings and are
measured on the same pictures. A seed is another random list of the images. Numbers are points of
mean accuracy over the curve; the interval is Welch's, 95 %.
"""

import argparse
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.setting import finish, set_up

BATCH, EXPLORATION_SHARE = 20, 0.1
HEURISTICS = ["auto", "margin", "random"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--cache", type=Path, help="a folder where embeddings are kept")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    set_up()
    torch.set_num_threads(1)
    from benchmarks import known_sets

    split = known_sets.of_pictures(options.source, options.source.stem, options.cache, reduce=False)
    result: dict[str, Any] = {}
    for heuristic in HEURISTICS:
        queue = [through_queue(split, heuristic, options.labels) for _ in range(options.seeds)]
        alone = [offline(split, heuristic, options.labels, seed) for seed in range(options.seeds)]
        result[heuristic] = row = compared(100 * np.array(queue), 100 * np.array(alone))
        print(
            f"{heuristic:8} queue {row['queue']:.2f} offline {row['offline']:.2f} difference "
            f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]",
            flush=True,
        )
    finish(result, as_json=options.json)


def through_queue(split: Any, heuristic: str, n_labels: int) -> float:
    """Label a new project through the real services and rounds; return the mean accuracy."""
    from workqueue import simulation

    with tempfile.TemporaryDirectory() as folder:
        simulated = project_of(split, Path(folder))
        names = [str(target) for target in split.test.targets.tolist()]
        test = simulation.TestSet([], split.test.embeddings, names)
        curves = list(
            simulation.run_curve(
                simulated, heuristic=heuristic, n_rounds=n_labels // BATCH, batch_size=BATCH,
                test=test,
            )
        )  # fmt: skip
        return float(np.mean(curves[-1].accuracy))


def project_of(split: Any, folder: Path) -> Any:
    """Return a project with the pool's embeddings; nobody looks at its pictures."""
    from django.conf import settings

    from annotator.accounts import services as accounts
    from annotator.labeling import services as labeling
    from annotator.labeling.models import Image, Project
    from ml import embedding_store
    from workqueue.models import Embedding, QueueState, Segment
    from workqueue.requests import state_of
    from workqueue.simulation import SimulatedProject

    user = accounts.ensure_robot(username="simulation", name="Simulation")
    project = labeling.create_project(
        actor=user, name=f"Agreement {uuid.uuid4().hex[:6]}", kind="one_class",
        classes=[labeling.ClassSpec(str(index)) for index in range(split.pool.n_classes)],
    )  # fmt: skip
    keys = [uuid.uuid4() for _ in range(len(split.pool))]
    images = Image.objects.bulk_create(
        [
            Image(
                project=project, key=key, random_key=Image.random_key_of(key), sha256=key.hex * 2,
                file_name=f"{row}.jpg", file_format="jpg", n_bytes=1, width=1, height=1,
            )
            for row, key in enumerate(keys)
        ],
        batch_size=500,
    )  # fmt: skip
    stored = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, split.pool.embeddings)
    segment = Segment.objects.create(
        project=project, backbone=settings.BACKBONE, name=stored.name, n_rows=len(images),
        dim=split.pool.embeddings.shape[1], sha256=stored.sha256,
    )  # fmt: skip
    Embedding.objects.bulk_create(
        [Embedding(image=image, segment=segment, row=row) for row, image in enumerate(images)],
        batch_size=500,
    )
    Project.objects.filter(pk=project.pk).update(n_images=len(images))
    state_of(project)
    QueueState.objects.filter(project=project).update(n_embedded=len(images))
    classes = {int(entry.name): entry.pk for entry in project.classes.all()}
    targets = split.pool.targets.tolist()
    truth = {image.pk: classes[target] for image, target in zip(images, targets, strict=True)}
    return SimulatedProject(project, user, truth)


def offline(split: Any, heuristic: str, n_labels: int, seed: int) -> float:
    """Replay the same policy; return the mean accuracy."""
    from ml import replay

    config = replay.ReplayConfig(
        batch_size=BATCH, n_labels=n_labels, random_start=False,
        exploration_share=0.0 if heuristic == "random" else EXPLORATION_SHARE,
    )  # fmt: skip
    return replay.replay_curve(split.pool, split.test, heuristic, seed=seed, config=config).area


def compared(queue: Any, offline: Any) -> dict[str, float]:
    """Return both means and the interval of their difference.

    Source: Welch (1947), "The generalization of 'Student's' problem".
    """
    from scipy import stats

    found = stats.ttest_ind(queue, offline, equal_var=False).confidence_interval(0.95)
    return {
        "queue": float(queue.mean()), "offline": float(offline.mean()),
        "difference": float(queue.mean() - offline.mean()),
        "low": float(found.low), "high": float(found.high),
    }  # fmt: skip


if __name__ == "__main__":
    main()
