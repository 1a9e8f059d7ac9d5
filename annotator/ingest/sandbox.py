"""A few child processes that decode untrusted files, shared by the threads of this process."""

import atexit
import contextlib
import json
import queue
import select
import subprocess
import sys
import threading
from pathlib import Path

from annotator.ingest.decoding import Decoded, RefusalError

TIMEOUT_S = 20.0
CHILD = Path(__file__).with_name("decoder_child.py")


class _Child:
    """One decoder process and the pipe to it."""

    def __init__(self) -> None:
        # S603: our own interpreter and our own file.
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-X", "utf8", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def ask(self, request: dict[str, str]) -> dict[str, dict[str, object]] | None:
        """Return the answer, or None when the child died or took too long."""
        assert self.process.stdin  # noqa: S101
        assert self.process.stdout  # noqa: S101
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            return None
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            return None
        answer: dict[str, dict[str, object]] = json.loads(line)
        return answer

    def end(self) -> None:
        """Kill the child and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


class DecoderPool:
    """Hands files to idle children; starts a new child when one has died.

    Args:
        size: how many files are decoded at once.
    """

    def __init__(self, size: int) -> None:
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)

    def decode(self, source: Path, display: Path, thumbnail: Path) -> Decoded:
        """Decode one file in a child; waits while all children are busy.

        Raises:
            RefusalError: it is not a picture we take, or it killed its decoder.
            OSError: the renditions could not be written.
        """
        child = self._idle.get()
        try:
            if child is None or child.process.poll() is not None:
                child = _Child()
            answer = child.ask(
                {"source": str(source), "display": str(display), "thumbnail": str(thumbnail)}
            )
            if answer is None:
                child.end()
                child = None
        finally:
            self._idle.put(child)
        return _result(answer)

    def close(self) -> None:
        """End the idle children."""
        while not self._idle.empty():
            child = self._idle.get_nowait()
            if child:
                child.end()


def _result(answer: dict[str, dict[str, object]] | None) -> Decoded:
    if answer is None:
        raise RefusalError(
            "decoder-crashed",
            "Reading this file took too long, too much memory, or crashed its reader.",
        )
    if "refused" in answer:
        refused = answer["refused"]
        raise RefusalError(str(refused["code"]), str(refused["reason"]))
    if "failed" in answer:
        failed = answer["failed"]
        raise OSError(int(str(failed["errno"])), str(failed["text"]))
    return Decoded(**answer["decoded"])  # type: ignore[arg-type]


_pool: DecoderPool | None = None
_lock = threading.Lock()


def decoder_pool(size: int) -> DecoderPool:
    """Return this process's pool, started at first use."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = DecoderPool(size)
            atexit.register(_pool.close)
        return _pool
