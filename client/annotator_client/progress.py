"""How far a command is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

LINE_EVERY_S = 5.0


class Progress:
    """Counts up to a total, on the error output, so that the output itself can be read on."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done, self._said_at = 0, time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=what, unit=f" {unit}", file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, n: int = 1) -> None:
        """Count."""
        self._done += n
        if self._bar is not None:
            self._bar.update(n)
        elif time.monotonic() - self._said_at >= LINE_EVERY_S:
            self._said_at = time.monotonic()
            of = "" if self._total is None else f" of {self._total}"
            self.say(f"{self._what}: {self._done}{of} {self._unit}")

    def say(self, sentence: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(sentence, file=sys.stderr)
        else:
            sys.stderr.write(f"{sentence}\n")
