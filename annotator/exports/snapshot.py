"""Reading the database as it was at one moment, while everybody goes on writing."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def one_moment() -> Iterator[None]:
    """Let all reads of this thread see one moment; nobody waits for them, and they write nothing.

    PostgreSQL keeps the rows of the moment as long as the block lasts, SQLite its write-ahead log:
    keep it to seconds or minutes, and write slow things from what was read.
    """
    if connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only=ON")
        # Not transaction.atomic(): ours is IMMEDIATE and would keep everybody else from writing.
        cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
            cursor.execute("PRAGMA query_only=OFF")
