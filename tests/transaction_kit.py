"""How many rows each transaction of this thread writes: what makes others wait, without a clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from django.db import connection


@contextmanager
def rows_written() -> Iterator[list[int]]:
    """Collect the rows written by each transaction of the block, the first one first."""
    sizes: list[int] = []
    open_rows = [0]

    def end():
        if open_rows[0]:
            sizes.append(open_rows[0])
        open_rows[0] = 0

    def count(execute, sql, params, many, context):
        done = execute(sql, params, many, context)
        open_rows[0] += _rows_of(sql, params, many, context["cursor"])
        if not connection.in_atomic_block:
            end()
        return done

    def and_end(function):
        def ended():
            function()
            end()

        return ended

    with (
        mock.patch.object(connection, "commit", and_end(connection.commit)),
        mock.patch.object(connection, "rollback", and_end(connection.rollback)),
        connection.execute_wrapper(count),
    ):
        yield sizes


def _rows_of(sql, params, many, cursor) -> int:
    word = sql.lstrip().partition(" ")[0].upper()
    if word not in {"INSERT", "UPDATE", "DELETE"}:
        return 0
    if word == "INSERT" and connection.vendor == "sqlite":
        # SQLite knows the number only after what is RETURNed has been read.
        return len(params) if many else sql.count("), (") + 1
    return max(cursor.rowcount, 0)
