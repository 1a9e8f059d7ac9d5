"""The figures of the progress page and of the metrics route."""

from collections.abc import Iterable
from statistics import median
from typing import Any

from django.db.models import Count, QuerySet
from django.db.models.functions import TruncDate

from annotator.accounts.models import User
from annotator.events.models import Event
from annotator.labeling.models import Annotation, AnnotationRegion, LabelClass, Project
from annotator.labeling.services import UNUSED
from workqueue.agreement import AGREEMENT_FROM, OwnAgreement, agreement_of_each
from workqueue.heuristics import title_of
from workqueue.models import ModelVersion, QueueSettings, Ranking, Round

# The settings that change an order (the others change when one is made).
RANKING_SETTINGS = (
    "heuristic", "budget_kind", "budget_value", "exploration_share", "head", "spread_duplicates",
    "balance_classes",
)  # fmt: skip
# A recall measured on fewer images than this is not shown: its interval would be half the scale.
RECALL_FROM = 10
ROUNDS_SHOWN = 200
HISTORY_SHOWN = 50
# The median is of so many labels of a person: how fast they are now.
SECONDS_FROM = 1000


def metrics(project: Project) -> dict[str, Any]:
    """Return everything the progress page draws."""
    rounds = done_rounds(project)
    return {
        "labels_over_time": labels_over_time(project),
        "curve": learning_curve(rounds),
        "measured_on": measured_on(project, rounds),
        "per_class": per_class(project),
        "per_person": per_person(project),
    }


def done_rounds(project: Project) -> list[Round]:
    """Return the last finished rounds, the oldest first."""
    rounds = Round.objects.filter(project=project, state=Round.State.DONE)
    newest = rounds.select_related("model_version", "ranking").order_by("-number")[:ROUNDS_SHOWN]
    return list(newest)[::-1]


def labels_over_time(project: Project) -> list[dict[str, Any]]:
    """Return how many labels each day gave, and the total up to it; unused ones left out."""
    days = (
        Annotation.objects.filter(image__project=project, action=Annotation.Action.LABEL)
        .exclude(outcome__in=UNUSED, replaced_by=None)
        .annotate(day=TruncDate("created_at"))
        .values("day")
        .annotate(n=Count("pk"))
        .order_by("day")
    )
    total, counted = 0, []
    for day in days:
        total += day["n"]
        counted.append({"day": day["day"].isoformat(), "n": day["n"], "total": total})
    return counted


def learning_curve(rounds: Iterable[Round]) -> list[dict[str, Any]]:
    """Return accuracy on the random sample against the number of labels, round by round."""
    curve = []
    for round_ in rounds:
        accuracy = round_.metrics.get("accuracy")
        if not accuracy or round_.model_version is None:
            continue
        curve.append(
            {
                "n_labels": round_.n_labels,
                "accuracy": accuracy["value"],
                "low": accuracy["low"],
                "high": accuracy["high"],
                "n_measured": accuracy["n"],
                "model": round_.model_version.number,
                "at": round_.finished_at.isoformat() if round_.finished_at else None,
            }
        )
    return curve


def measured_on(project: Project, rounds: list[Round]) -> str:
    """Return the sentence that says what the accuracy stands for."""
    last = next((entry for entry in reversed(rounds) if entry.metrics.get("accuracy")), None)
    if last is None:
        so_far = rounds[-1].metrics.get("n_measurable", 0) if rounds else 0
        return (
            "No accuracy yet. It is measured on images drawn at random: "
            f"{so_far} of these have labels so far, and 10 are needed."
        )
    n = last.metrics["accuracy"]["n"]
    sentence = (
        f"Measured on {n} images drawn at random from the whole collection, each judged by a model "
        "that had not seen it. The band is the 95 % interval."
    )
    frame = last.metrics.get("frame_until") or 0
    newer = project.images.filter(pk__gt=frame, deleted_at=None).count()
    if newer:
        sentence += f" {newer} images added later are not represented yet."
    return sentence


def per_class(project: Project) -> list[dict[str, Any]]:
    """Return labels and recall of each living class."""
    counts = dict(
        AnnotationRegion.objects.filter(
            # By its classes: by its images the database would read all labels of all projects.
            label_class__project=project,
            annotation__is_current=True,
            annotation__image__deleted_at=None,
        )
        .values_list("label_class")
        .annotate(n=Count("annotation__image", distinct=True))
    )
    newest = ModelVersion.objects.filter(project=project).order_by("-number").first()
    measured = {
        entry["class_id"]: entry
        for entry in (newest.metrics.get("per_class") if newest else []) or []
    }
    return [
        _class_row(label_class, counts.get(label_class.pk, 0), measured.get(label_class.pk))
        for label_class in LabelClass.objects.filter(project=project, deleted_at=None)
    ]


def _class_row(
    label_class: LabelClass, n_labels: int, measured: dict[str, Any] | None
) -> dict[str, Any]:
    enough = measured is not None and measured["n"] >= RECALL_FROM
    return {
        "class_id": label_class.pk,
        "name": label_class.name,
        "colour": label_class.colour,
        "n_labels": n_labels,
        "n_measured": measured["n"] if measured else 0,
        "recall": measured["recall"] if measured and enough else None,
        "low": measured["low"] if measured and enough else None,
        "high": measured["high"] if measured and enough else None,
    }


def settings_changes(project: Project) -> QuerySet[Event]:
    """Return the changes of the queue settings, newest first."""
    found = Event.objects.filter(project=project, kind="queue.settings_changed")
    return found.select_related("actor").order_by("-pk")


def settings_change(event: Event) -> dict[str, Any]:
    """Return who changed what of the queue settings when."""
    return {
        "at": event.at,
        "by": event.actor.shown_name if event.actor else None,
        "changes": event.payload["changes"],
    }


def settings_history(project: Project) -> list[dict[str, Any]]:
    """Return who changed the queue settings when, newest first."""
    return [settings_change(event) for event in settings_changes(project)[:HISTORY_SHOWN]]


def next_ranking_uses(project: Project, settings: QueueSettings, ranking: Ranking | None) -> str:
    """Return what the saved settings change at the next ranking; nothing when nothing differs."""
    made = Round.objects.filter(project=project, ranking=ranking).order_by("-number").first()
    if ranking is None or made is None:
        return ""
    used = made.settings_used
    differs = [
        name for name in RANKING_SETTINGS if name in used and used[name] != getattr(settings, name)
    ]
    if "heuristic" in differs:
        return title_of(settings.heuristic)
    return "the settings saved since" if differs else ""


def per_person(project: Project) -> list[dict[str, Any]]:
    """Return how many images each person has labelled."""
    return [
        {"name": person.shown_name, "n_labels": n_labels} for person, n_labels in _people(project)
    ]


def annotators(project: Project) -> list[dict[str, Any]]:
    """Return who has labelled how much, how fast, and how often others say the same."""
    agreement = agreement_of_each(project)
    return [
        {
            "user_id": person.pk,
            "name": person.shown_name,
            "n_labels": n_labels,
            "median_seconds": _median_seconds(project, person),
            **_own_agreement(agreement.get(person.pk)),
        }
        for person, n_labels in _people(project)
    ]


def _people(project: Project) -> list[tuple[User, int]]:
    """Return each person with how many labels of theirs stand, those with the most first."""
    counts = (
        Annotation.objects.filter(image__project=project, is_current=True)
        .values("author")
        .annotate(n=Count("pk"))
        .order_by("-n", "author")
    )
    people = User.objects.in_bulk([row["author"] for row in counts])
    return [(people[row["author"]], row["n"]) for row in counts]


def _median_seconds(project: Project, person: User) -> float | None:
    """Return the time on screen of half of their newest labels; None where none was measured."""
    newest = Annotation.objects.filter(
        author=person, image__project=project, is_current=True, seconds__isnull=False
    ).order_by("-pk")
    measured = newest.values_list("seconds", flat=True)[:SECONDS_FROM]
    seconds = [value for value in measured if value is not None]
    return round(median(seconds), 2) if seconds else None


def _own_agreement(found: OwnAgreement | None) -> dict[str, Any]:
    n_images = found.n_images if found else 0
    enough = found is not None and n_images >= AGREEMENT_FROM
    return {
        "n_compared": n_images,
        "agreement": round(found.share, 3) if found and enough else None,
    }
