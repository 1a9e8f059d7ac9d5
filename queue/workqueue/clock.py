"""The one clock that leases go by."""

from datetime import UTC, datetime

from django.db import connection

# The moment itself: CURRENT_TIMESTAMP is the start of the transaction on PostgreSQL, and whole
# seconds on SQLite.
_NOW = {
    "postgresql": "SELECT clock_timestamp()",
    "sqlite": "SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')",
}


def database_now() -> datetime:
    """Return the time by the database's clock, which all processes on all hosts share.

    Read once where a request, a page or a background pass begins, and handed down as ``now``.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NOW[connection.vendor])
        moment: datetime | str = cursor.fetchone()[0]
    if isinstance(moment, str):
        return datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return moment.astimezone(UTC)
