"""Tables the database itself keeps append-only, whoever writes to it and from where."""

from collections.abc import Collection, Iterator
from typing import Any

from django.apps import apps as installed
from django.db import connection
from django.db.migrations import RunPython

# Model -> the columns that may be updated. The migrations name the same.
HISTORY: dict[str, Collection[str]] = {
    "events.Event": (),
    "labeling.Annotation": ("is_current",),
    "labeling.AnnotationRegion": (),
    "workqueue.Submission": (),
}

_TRIGGERS = ("no_update", "no_delete")
_REFUSAL = "a row of the history is never changed or deleted"

_POSTGRESQL_FUNCTION = f"""
CREATE OR REPLACE FUNCTION refuse_to_change_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation';
END $$
"""
# A trigger can also be switched off.
_EXISTING = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'",
}


def append_only(app: str, model: str, *, may_change: Collection[str] = ()) -> RunPython:
    """Return the migration step that lets a table grow only.

    A migration that alters such a table on SQLite copies it, and its triggers are lost with the
    old one: repeat this step after it. PostgreSQL refuses to alter a column its trigger names: put
    :func:`open_to_change` before it. A test tries every column of every such table.

    Args:
        app: the label of the app.
        model: whose table.
        may_change: the columns that may be updated.
    """

    def forwards(apps: Any, editor: Any) -> None:
        _protect(apps.get_model(app, model), may_change, editor)

    return RunPython(forwards, _opener(app, model))


def open_to_change(app: str, model: str) -> RunPython:
    """Return the migration step that lets the next ones alter an append-only table."""
    return RunPython(_opener(app, model), RunPython.noop)


def _opener(app: str, model: str) -> Any:
    def drop(apps: Any, editor: Any) -> None:
        _drop(apps.get_model(app, model)._meta.db_table, editor)

    return drop


def _protect(model: Any, may_change: Collection[str], editor: Any) -> None:
    meta = model._meta
    columns = [field.column for field in meta.concrete_fields]
    kept = [editor.quote_name(name) for name in columns if name not in may_change]
    updates = f"UPDATE OF {', '.join(kept)}" if may_change else "UPDATE"
    _drop(meta.db_table, editor)
    if editor.connection.vendor == "postgresql":
        editor.execute(_POSTGRESQL_FUNCTION, None)
        body = "EXECUTE FUNCTION refuse_to_change_history()"
    else:
        body = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    for name, happening in zip(_TRIGGERS, (updates, "DELETE"), strict=True):
        editor.execute(
            f"CREATE TRIGGER {meta.db_table}_{name} BEFORE {happening} "
            f"ON {meta.db_table} FOR EACH ROW {body}",
            None,
        )


def _drop(table: str, editor: Any) -> None:
    on_table = f" ON {table}" if editor.connection.vendor == "postgresql" else ""
    for name in _TRIGGERS:
        editor.execute(f"DROP TRIGGER IF EXISTS {table}_{name}{on_table}", None)


def missing_triggers() -> list[str]:
    """Return the triggers of the history that are gone or switched off."""
    with connection.cursor() as cursor:
        cursor.execute(_EXISTING[connection.vendor])
        existing = {name for (name,) in cursor.fetchall()}
    return [name for name in _wanted() if name not in existing]


def _wanted() -> Iterator[str]:
    for model in HISTORY:
        for name in _TRIGGERS:
            yield f"{installed.get_model(model)._meta.db_table}_{name}"


def protect() -> None:
    """Create all triggers of the history anew."""
    with connection.schema_editor() as editor:
        for model, may_change in HISTORY.items():
            _protect(installed.get_model(model), may_change, editor)
