"""Asking for background work, and the two rows every project's queue has.

Both the services (a person labelled) and the background work itself (labels came meanwhile) ask for
rounds, so this lies below them.
"""

from django.db import transaction

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling.models import Project
from annotator.prepared import Given, Prepared
from workqueue.models import QueueSettings, QueueState, Replay, Round

_STATE = Prepared(
    lambda: QueueState.objects.select_related("ranking__model_version").filter(
        project=Given("project")
    )
)
_QUEUE = Prepared(
    lambda: QueueState.objects.select_related(
        "ranking__model_version", "project__queue_settings"
    ).filter(project=Given("project"))
)

_DUE = Prepared(
    lambda: QueueState.objects.filter(
        project=Given("project"), project__queue_settings__isnull=False
    ).values_list(
        "labels_since_round",
        "predictions_since_round",
        "project__queue_settings__batch_size",
        "project__queue_settings__predictions_from",
    )
)


def settings_of(project: Project) -> QueueSettings:
    """Return the project's queue settings, written with the defaults at first use."""
    settings, _ = QueueSettings.objects.select_related("project").get_or_create(project=project)
    return settings


def state_of(project: Project) -> QueueState:
    """Return the pointers and counters of the project's queue."""
    state = _STATE.first(project=project)
    return state or QueueState.objects.get_or_create(project=project)[0]


def queue_of(project: Project) -> tuple[QueueSettings, QueueState]:
    """Return both rows in one read; written with the defaults at first use."""
    state = _QUEUE.first(project=project)
    settings = getattr(state.project, "queue_settings", None) if state else None
    if state is None or settings is None:
        return settings_of(project), state_of(project)
    return settings, state


def request_round_if_due(*, project: Project) -> Round | None:
    """Start a round when a batch of labels is complete or an external model said something new.

    Only if none is under way.
    """
    n_labels, n_predictions, batch_size, model = _DUE.first(project=project) or _due(project)
    if model and n_predictions:
        return request_round(project=project, trigger=Round.Trigger.PREDICTIONS)
    if n_labels < batch_size:
        return None
    return request_round(project=project, trigger=Round.Trigger.BATCH)


def _due(project: Project) -> tuple[int, int, int, str]:
    """Return the same for a project whose settings were never written."""
    settings, state = queue_of(project)
    return (
        state.labels_since_round,
        state.predictions_since_round,
        settings.batch_size,
        settings.predictions_from,
    )


@transaction.atomic
def request_round(*, project: Project, trigger: str, actor: User | None = None) -> Round | None:
    """Queue a round, or return None while one waits or runs: labels count for the next then.

    An archived project gets none.
    """
    # The queue's row orders two requests at the same instant; the constraint is the guard. Not the
    # project's row: whoever counts a label holds that one and waits for this.
    QueueState.objects.select_for_update(no_key=True).get(pk=state_of(project).pk)
    if not Project.objects.filter(pk=project.pk, deleted_at=None).exists():
        return None
    rounds = Round.objects.filter(project=project)
    if rounds.filter(state__in=[Round.State.QUEUED, Round.State.RUNNING]).exists():
        return None
    last = rounds.order_by("-number").values_list("number", flat=True).first() or 0
    round_ = Round.objects.create(
        project=project, number=last + 1, trigger=trigger, started_by=actor
    )
    round_.job = jobs.enqueue(
        kind="round",
        queue="train",
        project_id=project.pk,
        params={"round_id": round_.pk},
        user_id=actor.pk if actor else None,
    )
    round_.save(update_fields=["job"])
    if actor:
        events.record(
            kind="round.requested",
            project_id=project.pk,
            actor_id=actor.pk,
            payload={"round": round_.number},
        )
    return round_


@transaction.atomic
def request_replay(
    *, project: Project, heuristics: list[str], n_seeds: int, actor: User
) -> Replay | None:
    """Queue a bake-off, or return None while one of the project waits or runs."""
    Project.objects.select_for_update().get(pk=project.pk)
    under_way = Job.objects.filter(
        kind="replay", project=project, state__in=[Job.State.QUEUED, Job.State.RUNNING]
    )
    if under_way.exists():
        return None
    # Random is what the others are measured against.
    chosen = list(dict.fromkeys([*heuristics, "random"]))
    replay = Replay.objects.create(
        project=project,
        heuristics=chosen,
        n_seeds=n_seeds,
        batch_size=settings_of(project).batch_size,
        started_by=actor,
    )
    replay.job = jobs.enqueue(
        kind="replay",
        queue="train",
        project_id=project.pk,
        params={"replay_id": replay.pk},
        user_id=actor.pk,
    )
    replay.save(update_fields=["job"])
    return replay


def request_embedding(*, project_id: int) -> None:
    """Queue the embedding of a project's new images, unless that is under way."""
    with transaction.atomic():
        project = Project.objects.select_for_update().get(pk=project_id)
        under_way = Job.objects.filter(
            kind="embed", project_id=project_id, state__in=[Job.State.QUEUED, Job.State.RUNNING]
        )
        if project.deleted_at is None and not under_way.exists():
            jobs.enqueue(kind="embed", queue="embed", project_id=project_id, params={})
