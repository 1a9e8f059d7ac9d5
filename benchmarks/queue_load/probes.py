"""What is watched while people label: write transactions, memory of the workers."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 0.002
MEMORY_EVERY_S = 0.5
MIB = 1024**2


class Watch:
    """The largest value seen."""

    def __init__(self) -> None:
        self.largest = 0.0

    def see(self, value: float) -> None:
        """Note a value."""
        self.largest = max(self.largest, value)


@contextmanager
def _looking(look: Callable[[threading.Event], None]) -> Iterator[None]:
    is_over = threading.Event()
    thread = threading.Thread(target=look, args=(is_over,))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def longest_write(database: dict[str, Any]) -> Iterator[Watch]:
    """Watch for the longest write transaction, in seconds.

    PostgreSQL: the age of the oldest transaction with a transaction id in ``pg_stat_activity``,
    looked at every 2 ms. SQLite: a probe asks for the write lock every 2 ms and gives it back at
    once; the longest stretch in which it never got it is at least the longest write transaction
    (transactions that follow each other within 2 ms count as one).
    """
    watch = Watch()
    is_sqlite = database["ENGINE"].endswith("sqlite3")
    look = _look_at_sqlite if is_sqlite else _look_at_postgresql
    with _looking(lambda is_over: look(database, watch, is_over)):
        yield watch


def _look_at_sqlite(database: dict[str, Any], watch: Watch, is_over: threading.Event) -> None:
    connection = sqlite3.connect(database["NAME"], timeout=0, isolation_level=None)
    with closing(connection):
        free_at = time.monotonic()
        while not is_over.wait(LOOK_EVERY_S):
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                free_at = time.monotonic()
            except sqlite3.OperationalError:
                watch.see(time.monotonic() - free_at)


def _look_at_postgresql(database: dict[str, Any], watch: Watch, is_over: threading.Event) -> None:
    import psycopg

    names = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port"}
    options = {ours: database[name] for name, ours in names.items()}
    with psycopg.connect(**options, autocommit=True) as connection:
        while not is_over.wait(LOOK_EVERY_S):
            row = connection.execute(
                "SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) "
                "FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
            ).fetchone()
            watch.see(float(row[0] or 0) if row else 0.0)


@contextmanager
def memory_of(pids: Callable[[], list[int]]) -> Iterator[Watch]:
    """Watch the memory of some processes together, in bytes.

    Mapped files (the embeddings) are left out: their pages go when somebody needs the room. What
    the processes share is counted once for each of them.
    """
    watch = Watch()

    def look(is_over: threading.Event) -> None:
        while not is_over.wait(MEMORY_EVERY_S):
            watch.see(sum(_anonymous(pid) for pid in pids()))

    with _looking(look):
        yield watch


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        # It has just ended.
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
