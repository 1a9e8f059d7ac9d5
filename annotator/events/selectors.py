"""Reads of the event log."""

from django.db import connection
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL

from annotator.events.models import Event

# An id is drawn before its transaction commits, so that a younger event can be seen before an older
# one. Settled is what is older than every transaction that was under way when we looked and may
# have written events, which are all but those known not to have; and what is our own, which alone
# can be seen behind the end of what we look at. A day later nothing of that time is under way; the
# numbers of transactions are compared no longer than that, they wrap.
_SETTLED = """
    events_event.at < now() - interval '1 day'
    OR age(events_event.xmin) <= age(pg_snapshot_xmax(pg_current_snapshot())::xid)
    OR coalesce(
        age(events_event.xmin) > age((
            SELECT other FROM pg_snapshot_xip(pg_current_snapshot()) AS other
            WHERE other IS DISTINCT FROM pg_current_xact_id_if_assigned()
            AND NOT EXISTS (
                SELECT FROM pg_locks AS running
                WHERE running.locktype = 'transactionid'
                AND running.mode = 'ExclusiveLock'
                AND running.transactionid = other::xid
                AND NOT EXISTS (
                    SELECT FROM pg_locks AS writing
                    WHERE writing.virtualtransaction = running.virtualtransaction
                    AND writing.locktype = 'relation'
                    AND writing.mode = 'RowExclusiveLock'
                    AND writing.relation = 'events_event'::regclass
                    AND writing.database = (
                        SELECT oid FROM pg_database WHERE datname = current_database()
                    )
                )
            )
            ORDER BY other LIMIT 1
        )::xid),
        true
    )
"""


def feed_of(project_id: int, *, after: int) -> QuerySet[Event]:
    """Return the events of a project after an id, in their order.

    None comes later with a smaller id than one that is here: whoever goes on after the last one has
    missed nothing. On PostgreSQL an event waits for older transactions to end. SQLite has one
    writer at a time.
    """
    events = Event.objects.filter(project=project_id, pk__gt=after).order_by("pk")
    if connection.vendor == "postgresql":
        return events.filter(RawSQL(_SETTLED, [], output_field=BooleanField()))  # noqa: S611
    return events
