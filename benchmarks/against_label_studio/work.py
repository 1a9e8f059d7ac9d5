"""The same work for both, in turns, so that neither has the machine in a better hour."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.against_label_studio import tools
from benchmarks.against_label_studio.client import Call
from benchmarks.against_label_studio.figures import Pair, n_failed, times_of
from benchmarks.against_label_studio.labeling import (
    Stretch,
    doubles,
    label,
    rank_correlation,
    share_of_the_first,
)
from benchmarks.against_label_studio.pictures import Picture, most_uncertain_first
from benchmarks.against_label_studio.tools import Tool

FILES_A_REQUEST = 25
IMPORT_TURNS = 4
LIST_TURNS = 3
WARM_UP = 5
# Of several people's images the answers overtake each other by a few places.
IN_ORDER = 0.95


@dataclass(frozen=True)
class Amount:
    """How much is done.

    Attributes:
        alone: labels of one person alone.
        people: how many label at once after that.
        together: labels of each of them.
        turns: into how many parts each is cut; the programs take turns.
    """

    alone: int
    people: int
    together: int
    turns: int = 4


class Work:
    """Both programs and the work that is done with both.

    ``wrong`` says afterwards what Annotator should not have done.
    """

    def __init__(
        self,
        ours: Tool,
        theirs: Tool,
        pictures: Sequence[Picture],
        said: dict[str, list[float]],
        say: Callable[[str], None],
    ) -> None:
        self._tools, self._pictures, self._said, self._say = (ours, theirs), pictures, said, say
        self._class_of = {picture.file.name: picture.class_name for picture in pictures}
        self.wrong: list[str] = []
        self._done: dict[str, set[str]] = {tool.name: set() for tool in self._tools}

    def do(self, amount: Amount) -> list[Pair]:
        """Do all of it and return the figures."""
        pairs = [
            *self._imported(),
            *self._listed(),
            *self._predicted(),
            *self._labelled("one person", 1, amount.alone, amount.turns),
            *self._labelled(f"{amount.people} people", amount.people, amount.together,
                            amount.turns),
        ]  # fmt: skip
        self._say("done")
        return pairs

    def _calls(self) -> tuple[list[Call], list[Call]]:
        """Return what was asked of each since the last time, and begin anew."""
        taken = tuple(list(tool.calls) for tool in self._tools)
        for tool in self._tools:
            tool.calls.clear()
        return taken[0], taken[1]

    def _imported(self) -> list[Pair]:
        files = [picture.file for picture in self._pictures]
        size = -(-len(files) // IMPORT_TURNS)
        sent, ready = {}, {}
        for tool in self._tools:
            sent[tool.name] = ready[tool.name] = 0.0
        for start in range(0, len(files), size):
            for tool in self._tools:
                began = time.monotonic()
                for first in range(start, min(start + size, len(files)), FILES_A_REQUEST):
                    tool.add(files[first : min(first + FILES_A_REQUEST, start + size)])
                sent[tool.name] += time.monotonic() - began
                tool.settle()
                ready[tool.name] += time.monotonic() - began
        self._say("pictures imported")
        return [
            times_of(f"Import, a request of {FILES_A_REQUEST} pictures", tools.IMPORT,
                     *self._calls()),
            self._rate("Pictures imported a second", len(files), sent),
            self._rate("the same with the background work after it", len(files), ready),
        ]  # fmt: skip

    def _rate(self, what: str, n: int, seconds: dict[str, float]) -> Pair:
        ours, theirs = (round(n / seconds[tool.name], 1) for tool in self._tools)
        return Pair(what, ours, theirs, unit="", better="more")

    def _listed(self) -> list[Pair]:
        for turn in range(LIST_TURNS + 1):
            for tool in self._tools:
                n = sum(tool.pages())
                if n != len(self._pictures):
                    raise SystemExit(f"{tool.name} lists {n} of {len(self._pictures)} images")
            if turn == 0:
                self._calls()
        self._say("images listed")
        return [times_of(f"List, a page of {tools.PAGE} images", tools.LIST, *self._calls())]

    def _predicted(self) -> list[Pair]:
        seconds = []
        for tool in self._tools:
            began = time.monotonic()
            tool.predict(self._said)
            seconds.append(round(time.monotonic() - began, 2))
            tool.settle()
        self._calls()
        self._say("predictions posted")
        what = f"Predictions of {len(self._said):,} images posted until they drive the order"
        return [Pair(what, seconds[0], seconds[1], unit="s")]

    def _labelled(self, who: str, n_people: int, n_each: int, turns: int) -> list[Pair]:
        """Let the people label in turns, after a few labels that only warm up."""
        self._say(f"{who} labeling")
        for tool in self._tools:
            self._stretch(tool, n_people, WARM_UP if n_people == 1 else 1)
        self._calls()
        orders = {tool.name: self._open(tool) for tool in self._tools}
        stretches: dict[str, list[Stretch]] = {tool.name: [] for tool in self._tools}
        for _ in range(turns):
            for tool in self._tools:
                stretches[tool.name].append(self._stretch(tool, n_people, n_each // turns))
        ours, theirs = self._calls()
        mine, others = (Outcome(stretches[t.name], orders[t.name]) for t in self._tools)
        failed = [n_failed(calls, tools.NEXT, tools.SUBMIT) for calls in (ours, theirs)]
        if mine.doubles or failed[0] or mine.correlation < IN_ORDER:
            self.wrong.append(
                f"{who}: {mine.doubles} doubled, {failed[0]} failed, "
                f"rank correlation {mine.correlation}"
            )
        return [
            times_of(f"Next image, {who}", tools.NEXT, ours, theirs),
            times_of(f"Submit, {who}", tools.SUBMIT, ours, theirs),
            Pair(f"Labels a second, {who}", mine.pace, others.pace, unit="", better="more"),
            Pair(f"Rank correlation with the order of uncertainty, {who}", mine.correlation,
                 others.correlation, unit="", better=""),
            Pair(f"Among as many most uncertain, {who}", mine.share, others.share, unit="%",
                 better=""),
            Pair(f"Labels of an image that had one, {who}", mine.doubled, others.doubled,
                 unit="%", better=""),
            Pair(f"Requests that failed, {who}", failed[0], failed[1], unit="", better=""),
        ]  # fmt: skip

    def _open(self, tool: Tool) -> list[str]:
        """Return the images without a label, the most uncertain first."""
        done = self._done[tool.name]
        return [name for name in most_uncertain_first(self._said) if name not in done]

    def _stretch(self, tool: Tool, n_people: int, n_each: int) -> Stretch:
        stretch = label(tool.people(n_people), n_each, self._class_of)
        if len(stretch.labels) != n_people * n_each:
            self._say(f"{tool.name}: {len(stretch.labels)} of {n_people * n_each} labels arrived")
        self._done[tool.name].update(stretch.labels)
        tool.settle()
        return stretch


class Outcome:
    """What came of all stretches of one program."""

    def __init__(self, stretches: Sequence[Stretch], order: Sequence[str]) -> None:
        served = [name for stretch in stretches for name in stretch.served]
        labels = [name for stretch in stretches for name in stretch.labels]
        self.pace = round(len(labels) / sum(stretch.seconds for stretch in stretches), 1)
        self.correlation = round(rank_correlation(served, order), 3)
        self.share = round(100 * share_of_the_first(served, order), 1)
        self.doubles = doubles(labels)
        self.doubled = round(100 * self.doubles / max(len(labels), 1), 1)
