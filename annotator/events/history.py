"""Tables the database itself keeps append-only, whoever writes to it and from where."""

from collections.abc import Collection
from typing import Any

from django.db.migrations import RunPython

_REFUSAL = "a row of the history is never changed or deleted"

_POSTGRESQL_FUNCTION = f"""
CREATE OR REPLACE FUNCTION refuse_to_change_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def append_only(app: str, model: str, *, may_change: Collection[str] = ()) -> RunPython:
    """Return the migration step that lets a table grow only.

    A migration that alters such a table on SQLite copies it, and its triggers are lost with the
    old one: repeat this step after it. A test tries every column of every such table.

    Args:
        app: the label of the app.
        model: whose table.
        may_change: the columns that may be updated.
    """

    def forwards(apps: Any, editor: Any) -> None:
        meta = apps.get_model(app, model)._meta
        columns = [field.column for field in meta.concrete_fields]
        kept = [editor.quote_name(name) for name in columns if name not in may_change]
        updates = f"UPDATE OF {', '.join(kept)}" if may_change else "UPDATE"
        backwards(apps, editor)
        if editor.connection.vendor == "postgresql":
            editor.execute(_POSTGRESQL_FUNCTION, None)
            body = "EXECUTE FUNCTION refuse_to_change_history()"
        else:
            body = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for name, happening in (("no_update", updates), ("no_delete", "DELETE")):
            editor.execute(
                f"CREATE TRIGGER {meta.db_table}_{name} BEFORE {happening} "
                f"ON {meta.db_table} FOR EACH ROW {body}",
                None,
            )

    def backwards(apps: Any, editor: Any) -> None:
        table = apps.get_model(app, model)._meta.db_table
        on_table = f" ON {table}" if editor.connection.vendor == "postgresql" else ""
        for name in ("no_update", "no_delete"):
            editor.execute(f"DROP TRIGGER IF EXISTS {table}_{name}{on_table}", None)

    return RunPython(forwards, backwards)
