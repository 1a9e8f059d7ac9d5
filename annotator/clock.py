"""The one clock that leases and jobs follow: the database's.

Web servers and workers may stand on several machines whose clocks differ; they share the database.
"""

from datetime import UTC, datetime

from django.db import connection
from django.utils.dateparse import parse_datetime

SQL = {
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "postgresql": "SELECT clock_timestamp()",
}


def database_now() -> datetime:
    """Return the database's time, aware, to the millisecond at least."""
    with connection.cursor() as cursor:
        cursor.execute(SQL[connection.vendor])
        (found,) = cursor.fetchone()
    if isinstance(found, datetime):
        return found
    parsed = parse_datetime(found)
    assert parsed is not None  # noqa: S101 - the format stands above
    return parsed.replace(tzinfo=UTC)
