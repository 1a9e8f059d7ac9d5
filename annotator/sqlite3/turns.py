"""Turns at a file: one holder at a time, among threads and processes, who are woken for it."""

import fcntl
import os
import threading


class TurnTimeoutError(Exception):
    """The turn did not come in time."""


class Turn:
    """The right to write to one database file."""

    def __init__(self, path: str) -> None:
        self._threads = threading.Lock()
        self._file = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, *, timeout: float) -> None:
        """Wait until nobody else has it.

        Only the first thread of a process asks the system, so that a process with many threads
        counts as one: its neighbours are woken in their turn.

        Raises:
            TurnTimeoutError: another thread of this process has had it for too long.
        """
        if not self._threads.acquire(timeout=timeout):
            raise TurnTimeoutError
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def end(self) -> None:
        """Let the next one have it: other processes first, who need no lock of Python's."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()


_turns: dict[str, Turn] = {}
_making = threading.Lock()


def turn_of(path: str) -> Turn:
    """Return the turn at a database file, the same one for all threads of the process."""
    with _making:
        if path not in _turns:
            _turns[path] = Turn(path)
        return _turns[path]


def _forget() -> None:
    # A forked child would share the parent's lock on the file, and the state of its threads.
    global _making
    _making = threading.Lock()
    _turns.clear()


os.register_at_fork(after_in_child=_forget)
