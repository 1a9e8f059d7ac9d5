"""When to stop labeling: the project's rules, and the reasons in words.

Everything here reads rows only. What needs the model (the agreement of two models, the forecast)
was computed in the round and stands in its metrics.
"""

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from annotator.labeling.models import Project
from annotator.prepared import Given, Prepared
from workqueue.models import QueueSettings, Round

# Models are compared only when their labels differ by a tenth: closer ones agree whatever they know
# (Bloodgood and Vijay-Shanker, 2009, with the growth rule of docs/heuristics.md).
AGREEMENT = 0.99
CHECKPOINTS = 3
# A gain below half a point from a tenth more labels counts as none.
SMALL_GAIN = 0.005


@dataclass(frozen=True)
class StopAdvice:
    """Whether labeling should stop, and why.

    Attributes:
        should_stop: a rule of the project is fulfilled.
        is_hard: the lead wants the queue to close then.
        reasons: one sentence for each rule that is fulfilled.
    """

    should_stop: bool
    is_hard: bool
    reasons: list[str]

    @property
    def closes_queue(self) -> bool:
        """Whether nothing more is served."""
        return self.should_stop and self.is_hard

    def as_json(self) -> dict[str, Any]:
        """Return it for the API."""
        return {"should_stop": self.should_stop, "is_hard": self.is_hard, "reasons": self.reasons}


def advice(project: Project, settings: QueueSettings) -> StopAdvice:
    """Look at every rule the project has."""
    reasons = _of_labels(project, settings.stop_at_labels) if settings.stop_at_labels else []
    needs_rounds = (
        settings.stop_at_rounds or settings.stop_at_accuracy or settings.stop_without_gain
    )
    if needs_rounds:
        # Counted only where it is asked for: people poll this.
        n_rounds = _rounds_done(project).count() if settings.stop_at_rounds else 0
        reasons += _of_rounds(settings, _NEWEST.all(project=project), n_rounds)
    return StopAdvice(bool(reasons), settings.stop_is_hard, reasons)


def _rounds_done(project: Project | Given) -> QuerySet[Round]:
    done = Round.objects.filter(project=project, state=Round.State.DONE)
    return done.exclude(model_version=None)


_NEWEST = Prepared(lambda: _rounds_done(Given("project")).order_by("-number")[:CHECKPOINTS])
_N_LABELLED = Prepared(
    lambda: Project.objects.filter(pk=Given("project")).values_list("n_labelled", flat=True)
)


def _of_labels(project: Project, wanted: int) -> list[str]:
    n_labelled = _N_LABELLED.first(project=project) or 0
    if n_labelled < wanted:
        return []
    return [f"{n_labelled:,} images are labelled; {wanted:,} were wanted."]


def _of_rounds(settings: QueueSettings, newest: list[Round], n_rounds: int) -> list[str]:
    reasons = []
    if settings.stop_at_rounds and n_rounds >= settings.stop_at_rounds:
        reasons.append(f"{n_rounds} models were trained; {settings.stop_at_rounds} were wanted.")
    accuracy = newest[0].metrics.get("accuracy") if newest else None
    if settings.stop_at_accuracy and accuracy and accuracy["low"] >= settings.stop_at_accuracy:
        reasons.append(
            f"The accuracy is at least {accuracy['low']:.0%} (lower end of its 95 % interval); "
            f"{settings.stop_at_accuracy:.0%} was the aim."
        )
    if settings.stop_without_gain and _is_flat(newest):
        reasons.append(
            "The last models agree with each other, and a tenth more labels is expected to gain "
            "less than half a point of accuracy."
        )
    return reasons


def _is_flat(newest: list[Round]) -> bool:
    """Return whether three models in a row agreed with the one a tenth of labels before them."""
    if len(newest) < CHECKPOINTS:
        return False
    agreed = [round_.metrics.get("agreement") for round_ in newest]
    expected = newest[0].metrics.get("forecast")
    return (
        all(value is not None for value in agreed)
        and sum(agreed) / len(agreed) >= AGREEMENT
        and expected is not None
        and expected["gain_high"] < SMALL_GAIN
    )
