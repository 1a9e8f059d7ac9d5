"""Doing a bake-off in the background, a curve at a time, so that rounds never wait for it."""

from typing import Any

from django.utils import timezone

from annotator.events import services as events
from annotator.jobs.models import Job
from annotator.jobs.running import JobRun, YieldedError
from annotator.jobs.services import JobFailedError
from annotator.labeling.models import Project
from workqueue import learning
from workqueue.models import QueueState, Replay
from workqueue.requests import settings_of

BASELINE = "random"


def run_replay(run: JobRun) -> None:
    """Do a job of kind ``replay``; a curve that is done is kept, so a new try goes on from there.

    Raises:
        JobFailedError: there are too few labels.
        YieldedError: a round waits; the replay goes on after it.
    """
    replay = Replay.objects.select_related("project").get(pk=run.params["replay_id"])
    config = settings_of(replay.project)
    labelled = learning.load_labelled(replay.project, frame_before=0)
    try:
        bake = learning.bake_off(labelled, config, batch_size=replay.batch_size)
    except learning.TooFewLabelsError as error:
        raise JobFailedError(str(error)) from error
    curves = _curves_so_far(replay, n_labels=len(labelled))
    plan = [(name, seed) for seed in range(replay.n_seeds) for name in replay.heuristics]
    done = sum(len(found) for found in curves.values())
    for number, (name, seed) in enumerate(plan):
        if number < done:
            continue
        run.progress(number, len(plan), f"replaying {name}")
        curves[name].append(learning.replay_once(bake, name, seed=seed))
        with run.step():
            partial = {"curves": curves, "n_labels": len(labelled)}
            Replay.objects.filter(pk=replay.pk).update(result=partial)
        if number + 1 < len(plan) and _round_waits(replay.project):
            raise YieldedError
    result = learning.summary(bake, curves) | {"n_labels": len(labelled)}
    with run.commit():
        _publish(replay, result)


def _curves_so_far(replay: Replay, *, n_labels: int) -> dict[str, list[dict[str, Any]]]:
    """Return the curves of an earlier try, unless labels have come since: then they are stale."""
    if replay.result.get("curves") and replay.result.get("n_labels") == n_labels:
        kept: dict[str, list[dict[str, Any]]] = replay.result["curves"]
        return kept
    return {name: [] for name in replay.heuristics}


def _round_waits(project: Project) -> bool:
    del project  # one worker does the rounds of all projects
    return Job.objects.filter(kind="round", state=Job.State.QUEUED).exists()


def _publish(replay: Replay, result: dict[str, Any]) -> None:
    Replay.objects.filter(pk=replay.pk).update(result=result, finished_at=timezone.now())
    if "auto" in replay.heuristics and not result["is_indicative"]:
        QueueState.objects.filter(project=replay.project_id).update(
            preferred_heuristic=result["better_than_auto"]
        )
    events.record(
        kind="replay.done",
        project_id=replay.project_id,
        actor_id=replay.started_by_id,
        payload={"replay": replay.pk, "better_than_auto": result["better_than_auto"]},
    )
