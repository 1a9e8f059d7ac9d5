"""Tables whose rows are never changed or deleted: the database itself refuses.

A migration that makes SQLite rebuild such a table loses its triggers; the test of direct SQL then
fails, and the migration has to protect the table again.
"""

from collections.abc import Sequence
from typing import Any

from django.db.migrations import RunPython

REFUSAL = "history is only ever added to"
FUNCTION = "annotator_append_only"


def protect(table: str, columns: Sequence[str] = ()) -> RunPython:
    """Return the migration step that makes a table append-only.

    Args:
        table: its name in the database.
        columns: the ones that never change; all without.
    """

    def forwards(_: Any, editor: Any) -> None:
        of = f" OF {', '.join(columns)}" if columns else ""
        for what, event in (("update", f"UPDATE{of}"), ("delete", "DELETE")):
            for statement in _create(editor.connection.vendor, table, what, event):
                editor.execute(statement)

    def backwards(_: Any, editor: Any) -> None:
        for what in ("update", "delete"):
            on = f" ON {table}" if editor.connection.vendor == "postgresql" else ""
            editor.execute(f"DROP TRIGGER {_name(table, what)}{on}")

    return RunPython(forwards, backwards)


def _name(table: str, what: str) -> str:
    return f"append_only_{what}_{table}"


def _create(vendor: str, table: str, what: str, event: str) -> list[str]:
    trigger = f"CREATE TRIGGER {_name(table, what)} BEFORE {event} ON {table} FOR EACH ROW"
    if vendor == "sqlite":
        return [f"{trigger} BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"]
    return [
        f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$",
        f"{trigger} EXECUTE FUNCTION {FUNCTION}()",
    ]
