"""One round: train, score, select, write the new ranking, flip the pointer.

Labeling never waits: the old ranking serves until the flip, which is one short transaction. A round
whose worker dies is started again by the sweeper; nothing of a dead attempt is ever pointed to.
"""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

import annotator
from annotator.events import services as events
from annotator.jobs.models import Job
from annotator.jobs.running import JobRun
from annotator.jobs.services import JobFailedError
from annotator.labeling.models import Project
from workqueue import learning
from workqueue.models import (
    ModelVersion,
    QueueSettings,
    QueueState,
    Ranking,
    Round,
    Segment,
)
from workqueue.predictions import predictions_for
from workqueue.rankings import overlap_with_former, write_ranking
from workqueue.requests import request_embedding, request_round_if_due, settings_of, state_of
from workqueue.sampling import frame_before
from workqueue.training import Learned, Stopwatch, learn

# So that a mistake can be looked into; each network takes some megabytes.
NETWORKS_KEPT = 5
SETTINGS_KEPT = [
    "heuristic", "budget_kind", "budget_value", "batch_size", "exploration_share", "training",
    "head", "spread_duplicates", "balance_classes", "predictions_from", "version",
]  # fmt: skip


def run_round(run: JobRun) -> None:
    """Do the round of a job of kind ``round``."""
    round_ = Round.objects.select_related("project").get(pk=run.params["round_id"])
    project = round_.project
    config = settings_of(project)
    seen = state_of(project)
    watch = Stopwatch()
    Round.objects.filter(pk=round_.pk).update(
        state=Round.State.RUNNING,
        started_at=timezone.now(),
        settings_used={name: getattr(config, name) for name in SETTINGS_KEPT},
    )
    run.progress(0, 4, "reading labels and embeddings")
    with watch.step("load"):
        _verify_segments(project)
        labelled = learning.load_labelled(project, frame_before=frame_before(project))
        begun = learning.load_begun(project)
        pool = learning.load_pool(project, begun)
        predicted, lack = predictions_for(project, config, pool, labelled.class_ids)
    run.progress(1, 4, "training")
    learned = learn(run, labelled, pool, config, round_, watch)
    trained = learned.trained
    run.progress(2, 4, "ranking")
    with watch.step("rank"):
        ranked = _rank(pool, learned, config, predicted, seed=round_.pk)
    if trained:
        with watch.step("check"):
            trained.metrics.update(_outlook(project, trained, labelled, pool))
    model = _save_model(run, round_, labelled, trained, watch)
    run.progress(3, 4, "writing the new order")
    with watch.step("write"):
        ranking = (
            write_ranking(
                run,
                config,
                pool,
                ranked,
                class_ids=labelled.class_ids,
                model=None if predicted else model,
                external_model=predicted.model if predicted else "",
                begun=begun,
            )
            if ranked
            else None
        )
    overlap = overlap_with_former(project, pool, ranking) if ranking else None
    with run.commit():
        _flip(project, ranking, model, seen)
        Round.objects.filter(pk=round_.pk).update(
            state=Round.State.DONE,
            finished_at=timezone.now(),
            n_labels=len(labelled),
            n_pool=len(pool),
            n_candidates=ranking.n_candidates if ranking else 0,
            seconds=watch.seconds,
            metrics=trained.metrics if trained else {},
            overlap_top_100=overlap,
            note=" ".join(filter(None, [learned.note, lack]))[:300],
            error="",
            model_version=model,
            ranking=ranking,
        )
        events.record(
            kind="round.done",
            project_id=project.pk,
            actor_id=round_.started_by_id,
            payload={
                "round": round_.number,
                "ranking": ranking.number if ranking else None,
                "model": model.number if model else None,
            },
        )
        request_round_if_due(project=project)
    if trained and trained.network:
        learning.drop_networks(_old_networks(project))


def _old_networks(project: Project) -> Iterable[ModelVersion]:
    """Return model versions whose networks nobody will embed with again."""
    tuned = ModelVersion.objects.filter(project=project, training=QueueSettings.Training.FINE_TUNE)
    return tuned.order_by("-number")[NETWORKS_KEPT : 4 * NETWORKS_KEPT]


def round_failed(job_id: int) -> None:
    """Mark the round of a job that has failed for good, with the job's error."""
    job = Job.objects.get(pk=job_id)
    reason = job.error or "The round was cancelled."
    Round.objects.filter(job_id=job_id, state__in=[Round.State.QUEUED, Round.State.RUNNING]).update(
        state=Round.State.FAILED, error=reason, finished_at=timezone.now()
    )
    events.record(
        kind="round.failed",
        project_id=job.project_id,
        actor_id=None,
        payload={"job": job_id, "error": reason},
    )


def _verify_segments(project: Project) -> None:
    """Check the embedding files; torn ones are forgotten and embedded again."""
    other_backbone = Segment.objects.filter(project=project).exclude(backbone=learning.BACKBONE)
    if other_backbone.exists():
        raise JobFailedError(
            "The backbone was changed; the images are embedded again first. "
            "The next round starts by itself."
        )
    for segment in Segment.objects.filter(project=project):
        try:
            learning.verify_segment(segment)
        except learning.TornSegmentError:
            segment.delete()
            request_embedding(project_id=project.pk)


def _outlook(
    project: Project,
    trained: learning.TrainedHead,
    labelled: learning.LabelledSet,
    pool: learning.Pool,
) -> dict[str, Any]:
    """Return what the stopping rules ask: agreement with a former model, and the forecast."""
    former = (
        ModelVersion.objects.filter(project=project, n_labels__lte=len(labelled) / 1.1)
        .order_by("-number")
        .first()
    )
    done = Round.objects.filter(project=project, state=Round.State.DONE).order_by("number")
    points = [
        (n_labels, metrics["accuracy"])
        for n_labels, metrics in done.values_list("n_labels", "metrics")
        # A curve of one kind of training says nothing of where the other will go.
        if metrics.get("accuracy") and ("fine_tuning" in metrics) == (trained.network is not None)
    ]
    if trained.metrics["accuracy"]:
        points.append((len(labelled), trained.metrics["accuracy"]))
    return {
        # A fine-tuned network would have to embed every image it is compared on.
        "agreement": None
        if trained.network
        else learning.agreement(trained.head, former, labelled.class_ids, pool),
        "forecast": learning.forecast_of(points),
    }


def _rank(
    pool: learning.Pool,
    learned: Learned,
    config: QueueSettings,
    predicted: learning.Predicted | None,
    *,
    seed: int,
) -> learning.RankedPool | None:
    if not len(pool):
        return None
    return learning.rank_pool(
        pool,
        learned.labelled,
        learned.trained,
        config,
        n_positions=min(len(pool), settings.RANKING_POSITIONS),
        seed=seed,
        preferred=state_of(config.project).preferred_heuristic,
        reembedded=learned.reembedded,
        predicted=predicted,
    )


def _save_model(
    run: JobRun,
    round_: Round,
    labelled: learning.LabelledSet,
    trained: learning.TrainedHead | None,
    watch: Stopwatch,
) -> ModelVersion | None:
    if trained is None:
        return None
    project = round_.project
    last = ModelVersion.objects.filter(project=project).order_by("-number").first()
    number = last.number + 1 if last else 1
    folder = f"{project.pk}/{number}-{run.job_id}-{run.attempt}"
    with watch.step("save"):
        sha256 = learning.save_head(
            trained,
            folder=settings.MODELS_ROOT / folder,
            class_ids=labelled.class_ids,
            number=number,
            version=annotator.__version__,
        )
    with run.step():
        return ModelVersion.objects.create(
            project=project,
            number=number,
            backbone=learning.BACKBONE,
            training=QueueSettings.Training.FINE_TUNE
            if trained.network
            else QueueSettings.Training.HEAD,
            class_ids=labelled.class_ids,
            folder=folder,
            sha256=sha256,
            n_labels=len(labelled),
            metrics=trained.metrics,
        )


def _flip(
    project: Project, ranking: Ranking | None, model: ModelVersion | None, seen: QueueState
) -> None:
    changes: dict[str, Any] = {
        name: Greatest(F(name) - getattr(seen, name), 0)
        for name in ("labels_since_round", "predictions_since_round")
    }
    changes |= {
        "ranking": ranking,
    }
    if model:
        changes["model_version"] = model
    QueueState.objects.filter(project=project).update(**changes)
