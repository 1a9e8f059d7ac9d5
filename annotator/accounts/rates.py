"""Counting requests so cheaply that nobody notices, and sharing the counts between processes.

A process counts in its memory and adds what it has counted to the shared row once per fiftieth of
the limit. A person who labels never comes near the first of these writes; a program at its limit
costs fifty a minute. In return, n processes let up to n fiftieths more through.
"""

import threading
from dataclasses import dataclass

WINDOW_S = 60
STEPS = 50
_KEPT = 10_000


@dataclass
class Tally:
    """What one process knows of one key in one window."""

    window: int
    shared: int = 0
    pending: int = 0

    @property
    def used(self) -> int:
        """How many there were, as far as is known here."""
        return self.shared + self.pending


class Rates:
    """The tallies of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[str, Tally] = {}

    def hit(self, key: str, limit: int, now: float) -> tuple[Tally, int]:
        """Count one, unless the limit is reached; return the tally and how many are to be shared.

        Whoever shares them reports the answer by :meth:`shared`.
        """
        window = int(now // WINDOW_S) * WINDOW_S
        with self._lock:
            tally = self._tallies.get(key)
            if tally is None or tally.window != window:
                self._forget_old(window)
                tally = self._tallies[key] = Tally(window)
            if tally.used > limit:
                return tally, 0
            tally.pending += 1
            due = tally.pending if tally.pending >= max(limit // STEPS, 1) else 0
            tally.pending -= due
            # Counted here as well until the answer comes, for the other threads.
            tally.shared += due
        return tally, due

    def shared(self, tally: Tally, total: int) -> None:
        """Note how many all processes together have counted."""
        with self._lock:
            tally.shared = max(tally.shared, total)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._tallies.clear()

    def _forget_old(self, window: int) -> None:
        if len(self._tallies) > _KEPT:
            self._tallies = {
                key: tally for key, tally in self._tallies.items() if tally.window == window
            }
