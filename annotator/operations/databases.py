"""One consistent moment of the database: taken while people label, and put back.

A live SQLite file is never copied as a file: what is in its write-ahead log would be missing.
"""

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from annotator import environment

SNAPSHOT = "backup_snapshot"


class DatabaseToolError(Exception):
    """The database could not be saved or put back; the text says what to do."""


@dataclass(frozen=True)
class Snapshot:
    """One moment of the database.

    Attributes:
        using: the alias under which its rows are read.
        dump: writes it to a file and returns that.
    """

    using: str
    dump: Callable[[], Path]

    def rows(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        return count_rows(connections[self.using])

    def migrations(self) -> list[str]:
        """Return all migrations that had been applied."""
        return applied_migrations(connections[self.using])


def count_rows(database: BaseDatabaseWrapper) -> dict[str, int]:
    """Return the number of rows of each table."""
    counts = {}
    with database.cursor() as cursor:
        for table in sorted(database.introspection.table_names(cursor)):
            # S608: the name comes from the database and is quoted.
            cursor.execute(f"SELECT count(*) FROM {database.ops.quote_name(table)}")  # noqa: S608
            counts[table] = int(cursor.fetchone()[0])
    return counts


def applied_migrations(database: BaseDatabaseWrapper) -> list[str]:
    """Return the migrations applied to a database, as ``app.name``."""
    return sorted(f"{app}.{name}" for app, name in MigrationRecorder(database).applied_migrations())


@contextmanager
def snapshot(folder: Path) -> Iterator[Snapshot]:
    """Hold one moment of the database.

    Args:
        folder: where its copy is written.

    Raises:
        DatabaseToolError: a program is missing, too old or failed.
    """
    taken = _sqlite_snapshot if connection.vendor == "sqlite" else _postgresql_snapshot
    with taken(folder) as held:
        yield held


@contextmanager
def _sqlite_snapshot(folder: Path) -> Iterator[Snapshot]:
    copy = folder / "database.sqlite3"
    copy.unlink(missing_ok=True)
    source = str(connection.settings_dict["NAME"])
    # In one step, so that the copy is of one read transaction: writers go on and never restart it.
    with (
        _sqlite_errors(),
        closing(sqlite3.connect(source)) as live,
        closing(sqlite3.connect(copy)) as target,
    ):
        live.backup(target)
        # One file, with no log beside it.
        target.execute("PRAGMA journal_mode=DELETE")
        _check_sqlite(target)
    reading = connection.copy()
    reading.settings_dict |= {"NAME": copy, "OPTIONS": {}}
    connections[SNAPSHOT] = reading
    try:
        yield Snapshot(SNAPSHOT, lambda: copy)
    finally:
        reading.close()
        del connections[SNAPSHOT]


@contextmanager
def _sqlite_errors() -> Iterator[None]:
    """Turn what SQLite raises on a damaged file or a full disk into our error."""
    try:
        yield
    except sqlite3.Error as error:
        raise DatabaseToolError(f"SQLite cannot copy the database: {error}") from error


def _check_sqlite(database: sqlite3.Connection) -> None:
    """Have SQLite read the whole file.

    Raises:
        DatabaseToolError: it is damaged.
    """
    (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        raise DatabaseToolError(f"The database is damaged: {said}")


@contextmanager
def _postgresql_snapshot(folder: Path) -> Iterator[Snapshot]:
    check_client("pg_dump")
    dump = folder / "database.dump"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # What is counted and listed here and what pg_dump writes are the same moment.
        cursor.execute("SELECT pg_export_snapshot()")
        name = str(cursor.fetchone()[0])

        def write() -> Path:
            _run("pg_dump", "--format=custom", f"--snapshot={name}", f"--file={dump}")
            return dump

        yield Snapshot(connection.alias, write)


def check_client(program: str) -> None:
    """See that one of PostgreSQL's programs is here and as new as the server.

    Raises:
        DatabaseToolError: it is missing or older than the server.
    """
    server = int(connection.pg_version) // 10_000  # type: ignore[attr-defined]
    mend = f"Install PostgreSQL's client programs, version {server} or newer (Debian and Ubuntu: "
    mend += f"apt install postgresql-client-{server})."
    if shutil.which(program) is None:
        raise DatabaseToolError(f"The program {program} is not installed. {mend}")
    said = _run(program, "--version")
    found = re.search(r"\) (\d+)", said)
    if found is None or int(found[1]) < server:
        raise DatabaseToolError(
            f"{said.strip()} is older than the server ({server}) and cannot read it. {mend}"
        )


def _run(program: str, *arguments: str) -> str:
    """Run one of PostgreSQL's programs on our database.

    Raises:
        DatabaseToolError: it failed.
    """
    # S603: arguments of our own; the password goes through the environment, where nobody sees it.
    done = subprocess.run(  # noqa: S603
        [program, *arguments], env=_client_environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise DatabaseToolError(f"{program} failed: {done.stderr.strip()[-800:]}")
    return done.stdout


def _client_environment() -> dict[str, str]:
    given = connection.settings_dict
    _, own = connection.client.settings_to_cmd_args_env(given, [])
    for variable, name in (
        ("PGHOST", "HOST"), ("PGPORT", "PORT"), ("PGUSER", "USER"), ("PGDATABASE", "NAME"),
    ):  # fmt: skip
        if given[name]:
            own = {**(own or {}), variable: str(given[name])}
    return environment.inherited(own or {})


def check_unused() -> None:
    """Refuse to replace a database that somebody else is working with.

    Raises:
        DatabaseToolError: it is in use.
    """
    in_use = _sqlite_in_use() if connection.vendor == "sqlite" else _postgresql_in_use()
    if in_use:
        raise DatabaseToolError(
            "The database is in use: stop all web servers and workers first, then try again."
        )


def _sqlite_in_use() -> bool:
    connection.close()
    with closing(sqlite3.connect(str(connection.settings_dict["NAME"]), timeout=1)) as database:
        try:
            # Leaving the log is granted only to somebody who is alone.
            database.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return True
    return False


def _postgresql_in_use() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return bool(cursor.fetchone()[0])


def home() -> Path:
    """Return a folder from which one rename puts a database in the place of ours."""
    if connection.vendor == "sqlite":
        return Path(connection.settings_dict["NAME"]).parent
    return Path(settings.DATA_DIR)


def replace(copy: Path) -> None:
    """Put another database in the place of ours: altogether, or not at all.

    Args:
        copy: what a snapshot's ``dump`` wrote, below :func:`home`; moved away on SQLite.

    Raises:
        DatabaseToolError: a program is missing, too old or failed; ours is as it was.
    """
    if connection.vendor == "sqlite":
        _replace_sqlite(copy)
    else:
        _replace_postgresql(copy)


def _replace_sqlite(copy: Path) -> None:
    with _sqlite_errors(), closing(sqlite3.connect(copy)) as database:
        _check_sqlite(database)
    check_unused()
    # Nobody has the old file open and its log is merged, so that one rename changes everything.
    copy.replace(str(connection.settings_dict["NAME"]))


def _replace_postgresql(dump: Path) -> None:
    check_client("pg_restore")
    check_client("psql")
    drops, content = dump.with_suffix(".drops.sql"), dump.with_suffix(".sql")
    drops.write_text("".join(f"DROP {what} CASCADE;\n" for what in _ours_in_postgresql()))
    connection.close()
    _run("pg_restore", "--no-owner", "--no-privileges", f"--file={content}", str(dump))
    _run(
        "psql", "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1",
        f"--file={drops}", f"--file={content}",
    )  # fmt: skip


def _ours_in_postgresql() -> list[str]:
    """Return the tables, and the functions that triggers call, but nothing of an extension."""
    with connection.cursor() as cursor:
        tables = [
            connection.ops.quote_name(name) for name in connection.introspection.table_names()
        ]
        cursor.execute(
            "SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace = current_schema()::regnamespace AND NOT EXISTS ("
            "SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass"
            " AND objid = pg_proc.oid AND deptype = 'e')"
        )
        routines = [row[0] for row in cursor.fetchall()]
    return [f"TABLE IF EXISTS {name}" for name in tables] + [
        f"ROUTINE IF EXISTS {name}" for name in routines
    ]
