"""Driving the real system with a known truth in place of a person.

Nothing is shortened: images come in through ingest, are embedded by the embedding job, served by
claims, labelled by submits, and every full batch starts a real round. Only the person is replaced
(and the Celery message: the job is done at once here unless a worker is faster).
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from annotator.accounts.models import User
from annotator.clock import database_now
from annotator.ingest import services as ingest
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Project
from workqueue import learning, services
from workqueue.models import ModelVersion, QueueSettings, Round
from workqueue.oracles import LabelledFile
from workqueue.requests import request_embedding, request_round, state_of

WORKER_TIMEOUT_S = 600.0
Say = Callable[[str], None]


class SimulationError(Exception):
    """The real system did not do its part; the text says which."""


@dataclass(frozen=True)
class TestSet:
    """Pictures that are never in the project: what the models are truly worth is measured here."""

    paths: list[Path]  # (n,)
    vectors: np.ndarray[Any, Any]  # (n, dim) float16, of the frozen backbone
    class_names: list[str]  # (n,)


@dataclass
class Curve:
    """What one heuristic reached, round by round."""

    heuristic: str
    n_labels: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)  # on the test set
    shown: list[dict[str, float] | None] = field(default_factory=list)  # what the page showed
    seconds: list[float] = field(default_factory=list)  # of each round


@dataclass
class SimulatedProject:
    """A project whose images' classes are known."""

    project: Project
    user: User
    truth: dict[int, int]  # image id -> class id


def build_project(
    files: Sequence[LabelledFile], *, user: User, name: str, say: Say
) -> SimulatedProject:
    """Create a project with the pictures and embed them.

    Raises:
        SimulationError: no picture could be added or embedded.
    """
    classes = sorted({file.class_name for file in files})
    project = labeling.create_project(
        actor=user,
        name=name,
        kind=Project.Kind.ONE_CLASS,
        classes=[labeling.ClassSpec(entry) for entry in classes],
    )
    class_ids = {entry.name: entry.pk for entry in project.classes.all()}
    truth: dict[int, int] = {}
    for index, file in enumerate(files, 1):
        added = ingest.add_image(
            project=project, file=file.path, file_name=file.path.name, user=user
        )
        if added.image is not None and added.result == "added":
            truth[added.image.pk] = class_ids[file.class_name]
        if index % 200 == 0 or index == len(files):
            say(f"added {len(truth)} of {len(files)} images")
    embed(project, say=say)
    return SimulatedProject(project, user, truth)


def embed(project: Project, *, say: Say) -> None:
    """Embed the project's images and make the first ranking.

    Raises:
        SimulationError: nothing could be embedded.
    """
    request_embedding(project_id=project.pk)
    while job := _open_job(project, "embed"):
        do_job(job)
        say(f"embedded {state_of(project).n_embedded} images")
    finish_rounds(project)
    if not state_of(project).n_embedded:
        raise SimulationError("No image could be embedded; see the job's error.")


def do_job(job: Job) -> None:
    """Do a waiting job here, or wait for the worker that was faster.

    Raises:
        SimulationError: it failed or took too long.
    """
    deadline = time.monotonic() + WORKER_TIMEOUT_S
    while True:
        jobs.run(job.pk)
        job.refresh_from_db()
        if job.state == Job.State.FAILED:
            raise SimulationError(f"The {job.kind} job failed: {job.error}")
        if not job.is_open or job.state == Job.State.QUEUED:
            return
        if time.monotonic() > deadline:
            raise SimulationError(f"The {job.kind} job did not end in {WORKER_TIMEOUT_S:.0f} s.")
        time.sleep(0.2)


def _open_job(project: Project, kind: str) -> Job | None:
    open_jobs = Job.objects.filter(
        project=project, kind=kind, state__in=[Job.State.QUEUED, Job.State.RUNNING]
    )
    return open_jobs.order_by("pk").first()


def finish_rounds(project: Project) -> None:
    """Do the rounds that wait."""
    while job := _open_job(project, "round"):
        do_job(job)


def label_next(simulated: SimulatedProject) -> bool:
    """Claim the next image and give it its true class; False when the queue is empty.

    Raises:
        SimulationError: an image was served whose class nobody knows.
    """
    claimed = services.claim(
        user=simulated.user, project=simulated.project, n=1, now=database_now(), client="simulation"
    )
    if not claimed.leases:
        return False
    lease = claimed.leases[0]
    if lease.image_id not in simulated.truth:
        raise SimulationError(f"Image {lease.image_id} was served but has no known class.")
    services.submit(
        user=simulated.user,
        project=simulated.project,
        key=uuid.uuid4().hex,
        lease_token=str(lease.token),
        class_ids=[simulated.truth[lease.image_id]],
        now=database_now(),
        source=Annotation.Source.SIMULATION,
    )
    return True


def run_curve(
    simulated: SimulatedProject,
    *,
    heuristic: str,
    n_rounds: int,
    batch_size: int,
    test: TestSet,
    changes: dict[str, Any] | None = None,
) -> Iterator[Curve]:
    """Label batch after batch and yield the curve so far after every round.

    Args:
        simulated: the project.
        heuristic: its heuristic.
        n_rounds: how many batches to label.
        batch_size: labels from one round to the next.
        test: what the models are measured on.
        changes: other queue settings than the usual ones, by field.

    Raises:
        SimulationError: a round failed.
    """
    project, user = simulated.project, simulated.user
    services.change_settings(
        project=project,
        actor=user,
        changes={"heuristic": heuristic, "batch_size": batch_size, **(changes or {})},
    )
    # The settings are used from the next ranking on: the first batch must follow them too.
    request_round(project=project, trigger=Round.Trigger.PERSON, actor=user)
    finish_rounds(project)
    curve = Curve(heuristic)
    for _ in range(n_rounds):
        labelled = sum(label_next(simulated) for _ in range(batch_size))
        finish_rounds(project)
        if not labelled:
            return
        _measure(project, curve, test)
        yield curve


def _measure(project: Project, curve: Curve, test: TestSet) -> None:
    done = Round.objects.filter(project=project, state=Round.State.DONE).order_by("-number")[0]
    project.refresh_from_db()
    curve.n_labels.append(project.n_labelled)
    curve.seconds.append(sum(done.seconds.values()))
    curve.accuracy.append(true_accuracy(project, done.model_version, test))
    curve.shown.append(done.metrics.get("accuracy"))


def true_accuracy(project: Project, model: ModelVersion | None, test: TestSet) -> float:
    """Return the share of the test set the model version gets right (0 without a model)."""
    if model is None:
        return 0.0
    names = dict(project.classes.values_list("pk", "name"))
    vectors, truth = test.vectors, test.class_names
    if model.training == QueueSettings.Training.FINE_TUNE:
        # Its head speaks of the embeddings of its own network.
        vectors, kept = learning.embed_paths_with(model, test.paths)
        truth = [test.class_names[index] for index in kept]
    logits = learning.load_head(model).logits(np.asarray(vectors, dtype=np.float32))
    said = [names[model.class_ids[index]] for index in np.argmax(logits, axis=1)]
    right = sum(a == b for a, b in zip(said, truth, strict=True))
    return right / len(test.class_names)


def build_test_set(files: Sequence[LabelledFile]) -> TestSet:
    """Embed the pictures that are kept out of every project, without storing anything."""
    vectors, kept = learning.embed_paths([file.path for file in files])
    return TestSet(
        paths=[files[index].path for index in kept],
        vectors=vectors,
        class_names=[files[index].class_name for index in kept],
    )
