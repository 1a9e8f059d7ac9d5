"""One stretch of labeling: the people, what they saw, and what is wrong with it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from annotator.labeling.models import Annotation, Image, Project
from benchmarks.queue_load import audit, rows
from benchmarks.queue_load.clients import Plan
from benchmarks.queue_load.figures import percentile
from benchmarks.queue_load.installation import ROOT, Installation
from workqueue.models import Embedding, Submission
from workqueue.requests import state_of

# What a log of the server must not hold. A worker that is told to end is none of it.
BAD_WORDS = ["database is locked", "deadlock detected", "Traceback", "does not answer"]
BAD_SHOWN = 5


@dataclass
class Stretch:
    """Some people labeling for a while.

    Attributes:
        project: where.
        plan: what they do.
        order: the ranking they should be served in; empty when it changes meanwhile.
        history: what they saw, once it is over.
        wrong: what must not be.
    """

    project: Project
    plan: Plan
    order: list[int]
    history: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def milliseconds(self, op: str, until: str = "end") -> list[float]:
        """Return how long the answered requests of a kind took, those of the warm-up left out."""
        first = self.plan.ramp_s
        return [
            (entry[until] - entry["start"]) * 1000
            for entry in self.history
            if entry["op"] == op and entry["start"] >= first and entry["status"] in {200, 201, 304}
        ]

    def p(self, share: float, op: str, until: str = "end") -> float:
        """Return a percentile of the times of a kind of request, in milliseconds."""
        return percentile(self.milliseconds(op, until), share)

    @cached_property
    def labels(self) -> int:
        """How many labels were acknowledged."""
        return len(audit.acknowledged(self.history))

    @property
    def items_a_second(self) -> float:
        """Labels a second once all people are there."""
        done = [
            entry["end"]
            for entry in self.history
            if entry["op"] == "submit" and entry["status"] in {200, 201}
        ]
        last = min(self.plan.seconds, max(done, default=0.0))
        inside = [end for end in done if self.plan.ramp_s <= end <= last]
        return len(inside) / max(last - self.plan.ramp_s, 0.001)

    def first_claims(self) -> list[float]:
        """Return how long each person waited for the first image to label, in milliseconds."""
        first: dict[int, float] = {}
        for entry in sorted(self.history, key=lambda entry: float(entry["start"])):
            if entry["op"] == "claim":
                first.setdefault(entry["person"], (entry["end"] - entry["start"]) * 1000)
        return list(first.values())


@contextmanager
def labeling(
    installation: Installation,
    project: Project,
    people: int,
    *,
    order: list[int],
    busy_is_wrong: bool = True,
    **habits: Any,
) -> Iterator[Stretch]:
    """Let people label while the block runs, and audit afterwards.

    Args:
        installation: the running server.
        project: where.
        people: how many.
        order: the ranking, or nothing where it changes.
        busy_is_wrong: whether a 503 is an error.
        habits: the fields of ``Plan``.
    """
    stop_file = installation.folder / "stop"
    stop_file.unlink(missing_ok=True)
    plan = Plan(
        port=installation.port,
        project=project.pk,
        classes=list(project.classes.order_by("position").values_list("pk", flat=True)),
        sessions=rows.sessions(project, people),
        stop_file=str(stop_file),
        **habits,
    )
    stretch = Stretch(project, plan, order)
    before = _last_annotation()
    logs_before = {name: len(text) for name, text in installation.logs.items()}
    plan_file, history_file = installation.folder / "plan.json", installation.folder / "history"
    plan.save(plan_file)
    clients = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.queue_load.clients", str(plan_file), str(history_file)],
        cwd=ROOT,
    )
    try:
        yield stretch
    finally:
        status = clients.wait(timeout=plan.seconds + 300)
    if status:
        raise SystemExit("the clients failed")
    stretch.history = _read(history_file)
    stretch.wrong = [
        *audit.wrong_answers(stretch.history, busy_is_wrong=busy_is_wrong),
        *audit.held_twice(stretch.history),
        *audit.labelled_twice(stretch.history),
        *audit.out_of_order(stretch.history, order, in_flight=people * 6),
        *audit.lost_or_doubled(stretch.history, _found(project, before)),
        *_wrong_counters(project),
        *_bad_lines(installation, logs_before),
    ]


def _read(history: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in history.read_text().splitlines()]


def _last_annotation() -> int:
    return Annotation.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def _found(project: Project, before: int) -> dict[str, Any]:
    """Return what the database holds of the labels written since."""
    new = Annotation.objects.filter(pk__gt=before, image__project=project)
    kept = Submission.objects.filter(annotation__gt=before)
    return {
        "kept": dict(kept.values_list("key", "annotation")),
        "current": dict(new.filter(is_current=True).values_list("pk", "image")),
        "n_new": new.count(),
    }


def _wrong_counters(project: Project) -> list[str]:
    """Return the counters that differ from what counting gives."""
    project.refresh_from_db()
    images = Image.objects.filter(project=project, deleted_at=None)
    stored = Embedding.objects.filter(image__project=project, segment__isnull=False)
    pairs = {
        "n_images": (project.n_images, images.count()),
        "n_labelled": (project.n_labelled, images.filter(status=Image.Status.LABELLED).count()),
        "n_embedded": (state_of(project).n_embedded, stored.count()),
    }
    return [
        f"{name} says {kept}, counting gives {counted}"
        for name, (kept, counted) in pairs.items()
        if kept != counted
    ]


def _bad_lines(installation: Installation, before: dict[str, int]) -> list[str]:
    found = [
        f"{name}: {line}"
        for name, text in installation.logs.items()
        for line in text[before.get(name, 0) :].splitlines()
        if any(word in line for word in BAD_WORDS)
    ]
    more = [f"and {len(found) - BAD_SHOWN} such lines more"] if len(found) > BAD_SHOWN else []
    return found[:BAD_SHOWN] + more
