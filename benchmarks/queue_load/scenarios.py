"""The loads: who does what at the same time, and what is measured against which target."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection

from annotator.jobs.models import Job
from annotator.labeling.models import Image
from benchmarks.queue_load import rows
from benchmarks.queue_load.figures import Figure, percentile
from benchmarks.queue_load.installation import Installation
from benchmarks.queue_load.lead import Lead, browse, pages
from benchmarks.queue_load.load import Stretch, labeling
from benchmarks.queue_load.probes import MIB, longest_write, memory_of
from benchmarks.queue_load.stock import Stock
from workqueue.models import Round

MINI = "mini"
# Nobody is asked to wait longer.
LONGEST_MS = 10_000
IMPORT_LIMIT_S = 480.0
QUIET_S = 240.0
ROUND_EVERY_S = 15.0


@dataclass(frozen=True)
class Site:
    """Where a load runs.

    Attributes:
        installation: the running server and its workers.
        database: ``sqlite`` or ``postgresql``.
        stock: what is in it.
        made: its projects.
        seconds: how long a load lasts.
    """

    installation: Installation
    database: str
    stock: Stock
    made: rows.Made
    seconds: float

    def figure(
        self, scenario: str, what: str, value: float, target: float | None = None, **more: Any
    ) -> Figure:
        """Return a figure of this database."""
        return Figure(scenario, self.database, what, round(value, 3), target=target, **more)

    def per_database(self, postgresql: float, sqlite: float) -> float:
        """Return the target of this database."""
        return postgresql if self.database == "postgresql" else sqlite

    def order(self) -> list[int]:
        """Give the large project a new ranking, of as many positions as a round writes."""
        n = min(settings.RANKING_POSITIONS, self.stock.n_images // 4)
        return rows.new_order(self.made.large, n, seed=int(time.time()))

    def quiet(self) -> None:
        """Wait until no background work is open.

        Raises:
            SystemExit: it does not end; the figures would be of something else.
        """
        until = time.monotonic() + QUIET_S
        open_jobs = Job.objects.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING])
        while open_jobs.exists():
            if time.monotonic() > until:
                raise SystemExit(f"background work does not end: {list(open_jobs)}")
            time.sleep(0.5)


@dataclass
class Outcome:
    """What a load gave: its figures, and what must not be."""

    figures: list[Figure]
    wrong: list[str]


def _always(site: Site, name: str, stretch: Stretch, *, claim: float, **more: Any) -> list[Figure]:
    """Return the figures every stretch of labeling has; targets are in milliseconds."""
    return [
        site.figure(name, "claim p50", stretch.p(0.5, "claim")),
        site.figure(name, "claim p95", stretch.p(0.95, "claim"), claim),
        site.figure(name, "claim p99", stretch.p(0.99, "claim"), more.get("claim_p99")),
        site.figure(name, "claim max", stretch.p(1, "claim"), more.get("claim_max")),
        site.figure(name, "submit p95", stretch.p(0.95, "submit"), more.get("submit")),
        site.figure(
            name, "image first byte p95", stretch.p(0.95, "image", "first_byte"), more.get("image")
        ),
        site.figure(
            name, "labels a second", stretch.items_a_second, more.get("items"), unit="",
            at_least=True,
        ),
        site.figure(name, "requests a second", len(stretch.history) / stretch.plan.seconds,
                    unit=""),
        site.figure(name, "errors, doubles, losses", len(stretch.wrong), 0, unit=""),
    ]  # fmt: skip


def fifty_people(site: Site) -> Outcome:
    """Fifty people with three seconds an image."""
    name = "LOAD-01" if site.database == "postgresql" else "LOAD-02"
    project = site.made.large
    with labeling(
        site.installation, project, 50, order=site.order(), seconds=site.seconds
    ) as stretch:
        pass
    targets = site.per_database(100, 150), site.per_database(120, 200), site.per_database(60, 100)
    more = {"claim_p99": 300.0, "items": 16.0} if name == "LOAD-01" else {}
    claim, submit, image = targets
    figures = _always(site, name, stretch, claim=claim, submit=submit, image=image, **more)
    return Outcome(figures, stretch.wrong)


def hundred_people(site: Site) -> Outcome:
    """A hundred people, then far more than the machine can serve."""
    habits: dict[str, Any] = {"seconds": site.seconds}
    with labeling(site.installation, site.made.large, 100, order=site.order(), **habits) as usual:
        pass
    flood: dict[str, Any] = {"seconds": max(site.seconds / 2, 10), "think_s": 0.0, "ramp_s": 2.0}
    with labeling(
        site.installation, site.made.large, 300, order=[], busy_is_wrong=False, **flood
    ) as crowd:
        pass
    times = [(entry["end"] - entry["start"]) * 1000 for entry in crowd.history]
    busy = sum(entry["status"] == 503 for entry in crowd.history)
    name = "LOAD-03"
    return Outcome(
        [
            *_always(site, name, usual, claim=site.per_database(200, 300)),
            site.figure(name, "300 without pause: longest answer", max(times), LONGEST_MS),
            site.figure(name, "300 without pause: request p95", percentile(times, 0.95)),
            site.figure(name, "300 without pause: labels a second", crowd.items_a_second, unit=""),
            site.figure(
                name, "300 without pause: 503 with Retry-After",
                100 * busy / max(len(crowd.history), 1), unit="% of requests",
            ),
            site.figure(name, "300 without pause: errors, doubles, losses", len(crowd.wrong), 0,
                        unit=""),
        ],
        usual.wrong + crowd.wrong,
    )  # fmt: skip


def reranked(site: Site) -> Outcome:
    """Twenty people while rounds rank the whole pool anew."""
    name, rounds = "LOAD-04", list[dict[str, Any]]()
    lead = Lead(site.installation, site.made)
    site.order()
    seconds = max(site.seconds, 2 * ROUND_EVERY_S)
    learning = site.installation.pids
    with (
        memory_of(lambda: learning("worker-learning")) as memory,
        labeling(site.installation, site.made.large, 20, order=[], seconds=seconds) as stretch,
        longest_write(settings.DATABASES["default"]) as write,
    ):
        until = time.monotonic() + seconds
        while time.monotonic() < until - 1:
            began = time.monotonic()
            # One under way is waited for even after the people have gone.
            done = lead.round(until + QUIET_S)
            rounds += [done] if done else []
            time.sleep(max(min(began + ROUND_EVERY_S, until) - time.monotonic(), 0))
    last = rounds[-1]["seconds"] if rounds else {}
    return Outcome(
        [
            *_always(site, name, stretch, claim=200, claim_max=1000.0),
            site.figure(
                name, "longest write transaction", write.largest * 1000, site.per_database(200, 50)
            ),
            site.figure(name, "rounds done", len(rounds), 1, unit="", at_least=True),
            site.figure("LOAD-08", "a round: scoring", last.get("rank", 0.0), unit="s"),
            site.figure("LOAD-08", "a round: writing the new order", last.get("write", 0.0), 2,
                        unit="s"),
            site.figure("LOAD-08", "a round: all of it", sum(last.values()), unit="s"),
            site.figure("LOAD-08", "memory of the learning worker", memory.largest / MIB, 1024,
                        unit="MiB"),
        ],
        stretch.wrong,
    )  # fmt: skip


def trained(site: Site) -> Outcome:
    """Twenty people whose own labels start round after round."""
    name, project = "LOAD-05", site.made.large
    site.order()
    before = Round.objects.filter(project=project, state=Round.State.DONE).count()
    rows.set_batch_size(project, site.made.lead, 20)
    try:
        with labeling(
            site.installation, project, 20, order=[], seconds=max(site.seconds, 30)
        ) as stretch:
            pass
    finally:
        rows.set_batch_size(project, site.made.lead, rows.NO_ROUNDS)
    site.quiet()
    n_rounds = Round.objects.filter(project=project, state=Round.State.DONE).count() - before
    return Outcome(
        [
            *_always(site, name, stretch, claim=250),
            site.figure(name, "rounds done", n_rounds, 1, unit="", at_least=True),
        ],
        stretch.wrong,
    )


def imported(site: Site) -> Outcome:
    """Twenty people while a zip is imported."""
    name = "LOAD-06"
    lead = Lead(site.installation, site.made)
    before = Image.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    stop = site.installation.folder / "stop"
    looks: list[tuple[float, dict[str, Any]]] = []
    site.order()
    fast = site.installation.pids
    with (
        memory_of(lambda: fast("worker-fast")) as memory,
        labeling(
            # What is imported is embedded, and then the order is another one: it is not checked.
            site.installation,
            site.made.large,
            20,
            order=[],
            seconds=IMPORT_LIMIT_S,
        ) as stretch,
    ):
        began = time.monotonic()
        number = lead.upload(site.stock.zip)
        sent_s = time.monotonic() - began
        looks += lead.watch_import(number, began + IMPORT_LIMIT_S)
        stop.touch()
    seconds, last = looks[-1]
    first = next((at for at, shown in looks if shown["n_added"]), seconds)
    wrong = [*stretch.wrong]
    if last["state"] != "done" or last["n_added"] != site.stock.n_zipped:
        wrong.append(f"the import ended {last['state']} with {last['n_added']} pictures")
    site.quiet()
    _remove_imported(site, before)
    scale = f"{site.stock.n_zipped:,} pictures, {site.stock.zip.stat().st_size / 1e9:.2f} GB"
    # The target is for 10,000 pictures; a smaller zip has its share of it.
    target = 300 * site.stock.n_zipped / 10_000
    return Outcome(
        [
            *_always(site, name, stretch, claim=250),
            site.figure(name, f"import of {scale}", seconds, target, unit="s"),
            site.figure(name, "sending the zip before it", sent_s, unit="s"),
            site.figure(name, "first images claimable after", first, 10, unit="s"),
            site.figure(name, "longest time without progress", _stalest(looks), 2, unit="s"),
            site.figure(name, "memory of the worker", memory.largest / MIB, 600, unit="MiB"),
        ],
        wrong,
    )


def _stalest(looks: list[tuple[float, dict[str, Any]]]) -> float:
    """Return the longest time in which the shown progress stood still."""
    longest, since, shown = 0.0, 0.0, None
    for at, look in looks:
        if look["progress"] != shown:
            shown, since = look["progress"], at
        longest = max(longest, at - since)
    return longest


def _remove_imported(site: Site, before: int) -> None:
    """Delete the imported files: both databases share the folder."""
    for image in Image.objects.filter(pk__gt=before, project=site.made.large):
        shutil.rmtree(site.stock.media / image.folder, ignore_errors=True)


def browsed(site: Site) -> Outcome:
    """A lead who opens every page, at all depths."""
    name, project = "LOAD-07", site.made.large
    lead = Lead(site.installation, site.made)
    classes = list(project.classes.order_by("position").values_list("pk", flat=True))
    wanted = pages(project.pk, classes[0], classes[-1], user=site.made.lead.pk)
    # The first look at each fills caches.
    browse(lead, wanted, site.stock.n_images, seconds=0)
    warm = len(lead.history)
    browse(lead, wanted, site.stock.n_images, seconds=site.seconds)
    seen = lead.history[warm:]
    bad = {f"{e['op']} was answered {e['status']}" for e in seen if e["status"] != 200}
    figures = []
    for page in wanted:
        times = [(e["end"] - e["start"]) * 1000 for e in seen if e["op"] == page.name]
        target = 30 if page.name.startswith("queue status") else 150
        figures.append(site.figure(name, f"{page.name} p95", percentile(times, 0.95), target))
    return Outcome(figures, sorted(bad))


def worn(site: Site) -> Outcome:
    """Twenty people in a project whose ranking's long head is done."""
    name, head = "LOAD-08", site.stock.n_worn * 3 // 4
    # The order is not checked: what follows the ranking is served as well.
    with labeling(site.installation, site.made.worn, 20, order=[], seconds=site.seconds) as stretch:
        pass
    figures = _always(site, name, stretch, claim=100)
    figures.append(site.figure(name, "head of the ranking that is done", head, unit="images"))
    return Outcome(figures, stretch.wrong)


def saturated(site: Site) -> Outcome:
    """Eight people without a pause."""
    with labeling(
        site.installation, site.made.large, 8, order=site.order(), seconds=site.seconds,
        think_s=0.0, ramp_s=1.0,
    ) as stretch:  # fmt: skip
        pass
    items = site.per_database(60, 40)
    figures = _always(site, "LOAD-10", stretch, claim=1000, items=items)
    return Outcome(figures, stretch.wrong)


def spike(site: Site) -> Outcome:
    """Fifty people who open the labeling page within ten seconds."""
    with labeling(
        site.installation, site.made.large, 50, order=site.order(), seconds=15, ramp_s=10.0
    ) as stretch:
        pass
    first = stretch.first_claims()
    return Outcome(
        [
            site.figure("LOAD-13", "first claim p95", percentile(first, 0.95), 1000),
            site.figure("LOAD-13", "first claim max", max(first)),
            site.figure("LOAD-13", "errors, doubles, losses", len(stretch.wrong), 0, unit=""),
        ],
        stretch.wrong,
    )


def drained(site: Site) -> Outcome:
    """Sixteen people who label a project to its end."""
    project, n = site.made.drained, site.stock.n_drained
    order = rows.new_order(project, n, seed=5)
    with labeling(
        site.installation, project, 16, order=order, seconds=300, think_s=0.0, ramp_s=0.0,
        until_empty=True,
    ) as stretch:  # fmt: skip
        pass
    wrong = [*stretch.wrong]
    if stretch.labels != len(order):
        wrong.append(f"{stretch.labels} of {len(order)} images were labelled")
    last = max(entry["end"] for entry in stretch.history)
    return Outcome(
        [
            site.figure("drain", f"16 people label {len(order):,} images", last, unit="s"),
            site.figure("drain", "errors, doubles, losses, out of order", len(wrong), 0, unit=""),
        ],
        wrong,
    )


def mini(site: Site) -> Outcome:
    """Twenty people for a short while: what the test suite runs."""
    with labeling(
        site.installation, site.made.large, 20, order=site.order(), seconds=site.seconds,
        ramp_s=2.0,
    ) as stretch:  # fmt: skip
        pass
    figures = _always(site, MINI, stretch, claim=site.per_database(200, 300))
    return Outcome([*figures, site.figure(MINI, "labels", stretch.labels, unit="")], stretch.wrong)


@dataclass(frozen=True)
class Scenario:
    """A load by its names."""

    names: tuple[str, ...]
    run: Callable[[Site], Outcome]


# The ones that leave background work behind come last.
SCENARIOS = [
    Scenario(("LOAD-01", "LOAD-02"), fifty_people),
    Scenario(("LOAD-03",), hundred_people),
    Scenario(("LOAD-10",), saturated),
    Scenario(("LOAD-13",), spike),
    Scenario(("LOAD-07",), browsed),
    Scenario(("LOAD-08",), worn),
    Scenario(("drain",), drained),
    Scenario(("LOAD-04",), reranked),
    Scenario(("LOAD-05",), trained),
    Scenario(("LOAD-06",), imported),
]
NAMES = [name for scenario in SCENARIOS for name in scenario.names]
# Not among them: only on demand.
ON_DEMAND = [Scenario((MINI,), mini)]


def run(site: Site, wanted: list[str], say: Callable[[str], None]) -> Outcome:
    """Run the wanted loads one after another."""
    whole = Outcome([], [])
    for scenario in SCENARIOS + ON_DEMAND:
        if not set(scenario.names) & set(wanted):
            continue
        began = time.monotonic()
        site.quiet()
        outcome = scenario.run(site)
        connection.close()
        label = f"{'/'.join(scenario.names)} on {site.database}"
        say(f"{label}: {time.monotonic() - began:.0f} s")
        whole.figures += outcome.figures
        whole.wrong += [f"{label}: {line}" for line in outcome.wrong]
    return whole
