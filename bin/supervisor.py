"""Keeps a few processes running, and ends all of them together. Stdlib only."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
STOP_S = 12.0
LOG_LIMIT = 10 * 1024**2
BACK_OFF_S = [0.5, 1, 2, 5, 10, 30]
# A process that lived this long before it died starts again without delay.
HEALTHY_S = 60.0


def _die_with_parent() -> None:
    # A killed supervisor leaves nothing behind (Linux).
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One process to keep running."""

    name: str
    command: list[str]
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    deaths: int = 0

    def start(self, now: float) -> None:
        """Start the process in a process group of its own, its output into the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".old.log"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.started_at = now
        self.log.with_suffix(".pid").write_text(str(self.process.pid))

    def back_off(self, now: float) -> float:
        """Return how long to wait before the next start, after another death."""
        self.deaths = 1 if now - self.started_at > HEALTHY_S else self.deaths + 1
        return BACK_OFF_S[min(self.deaths - 1, len(BACK_OFF_S) - 1)]

    def end_group(self) -> None:
        """End what the dead process left behind: its pool and its beat outlive it."""
        if self.process:
            _signal_group(self.process.pid, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


@dataclass
class Supervisor:
    """Runs children until it is told to stop."""

    children: list[Child]
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    stopping: bool = field(default=False, init=False)

    def start(self) -> None:
        """Start all children, and stop on Ctrl-C or SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: self.ask_to_stop())
        signal.signal(signal.SIGINT, lambda *_: self.ask_to_stop())
        for child in self.children:
            child.start(self.clock())

    def ask_to_stop(self) -> None:
        """Begin to stop; a second request ends everything at once."""
        if self.stopping:
            for child in self.children:
                child.end_group()
        self.stopping = True

    def watch(self) -> None:
        """Start again what died, until told to stop."""
        while not self.stopping:
            self.look_once()
            time.sleep(0.2)

    def look_once(self) -> None:
        """Start again what is due, and note what died."""
        now = self.clock()
        for child in self.children:
            if child.process is None:
                if now >= child.start_again_at:
                    child.start(now)
            elif child.process.poll() is not None:
                child.end_group()
                wait = child.back_off(now)
                self.say(
                    f"{child.name} ended with status {child.process.returncode}; "
                    f"starting it again in {wait:g} s (see {child.log})"
                )
                child.process = None
                child.start_again_at = now + wait

    def stop(self) -> None:
        """End all children: the main processes first, after a while their groups."""
        alive = [child for child in self.children if child.process]
        for child in alive:
            # Only the main process: Celery ends its own pool, and hangs when it is ended for it.
            if child.process and child.process.poll() is None:
                child.process.terminate()
        deadline = self.clock() + STOP_S
        while self.clock() < deadline and any(
            child.process and child.process.poll() is None for child in alive
        ):
            time.sleep(0.1)
        for child in alive:
            child.end_group()
            if child.process:
                child.process.wait()
