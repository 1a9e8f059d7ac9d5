"""Turns at a file: one holder at a time, among threads and processes, who are woken for it."""

import fcntl
import os
import threading
import time


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
            TurnTimeoutError: somebody else has had it for too long.
        """
        until = time.monotonic() + timeout
        if not self._threads.acquire(timeout=timeout):
            raise TurnTimeoutError
        if not self._is_free():
            self._wait(until - time.monotonic())

    def _is_free(self) -> bool:
        """Take the file if no other process has it. The system frees it when a holder dies."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait(self, timeout: float) -> None:
        # The system can be waited for, but not for a time, so a thread does it. Looking again and
        # again instead would let processes whose threads follow each other closely always be first.
        request = _Request()
        threading.Thread(target=self._wait_for, args=(request,), daemon=True).start()
        if not request.came.wait(timeout) and request.give_up():
            raise TurnTimeoutError

    def _wait_for(self, request: "_Request") -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        if not request.arrive():
            # Nobody waits any more. Until now the threads of this process were kept waiting, too.
            self.end()

    def end(self) -> None:
        """Let the next one have it: other processes first, who need no lock of Python's."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()


class _Request:
    """A wish for the turn, which either comes or is given up."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self._is_given_up = False
        self._decides = threading.Lock()

    def arrive(self) -> bool:
        """Note that the turn came; return whether somebody still wants it."""
        with self._decides:
            if not self._is_given_up:
                self.came.set()
            return not self._is_given_up

    def give_up(self) -> bool:
        """Want it no longer; return whether it has not come at the last moment."""
        with self._decides:
            self._is_given_up = not self.came.is_set()
            return self._is_given_up


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
