"""The only place that reads environment variables; every name is in docs/operations.md."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

PREFIX = "ANNOTATOR_"


def text(name: str, default: str = "") -> str:
    """Return the variable ``ANNOTATOR_<name>``, stripped."""
    return os.environ.get(PREFIX + name, default).strip()


def flag(name: str, *, default: bool = False) -> bool:
    """Return whether the variable is switched on (1, true, yes, on)."""
    value = text(name, "1" if default else "0").lower()
    return value in {"1", "true", "yes", "on"}


def number(name: str, default: int) -> int:
    """Return the variable as a whole number.

    Raises:
        ImproperlyConfigured: it is not one.
    """
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{PREFIX}{name} must be a whole number, not {value!r}."
        ) from error


def items(name: str, default: str = "") -> list[str]:
    """Return the comma-separated entries of the variable."""
    return [entry.strip() for entry in text(name, default).split(",") if entry.strip()]


def numbers(name: str, default: str = "") -> list[int]:
    """Return the comma-separated whole numbers of the variable.

    Raises:
        ImproperlyConfigured: one of them is none.
    """
    entries = items(name, default)
    wrong = [entry for entry in entries if not (entry.isascii() and entry.isdigit())]
    if wrong:
        raise ImproperlyConfigured(f"{PREFIX}{name} must hold whole numbers, not {wrong[0]!r}.")
    return [int(entry) for entry in entries]


def inherited(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process: ours, and some variables more."""
    return {**os.environ, **more}


def secret_key() -> str:
    """Return the key that signs sessions; there is no default.

    Raises:
        ImproperlyConfigured: missing or too short to be secret.
    """
    key = text("SECRET_KEY")
    if len(key) < 50:
        raise ImproperlyConfigured(
            f"{PREFIX}SECRET_KEY must hold at least 50 random characters. "
            "bin/run makes one; otherwise: "
            'python -c "import secrets; print(secrets.token_urlsafe(64))"'
        )
    return key


def database(url: str, *, data_dir: Path, is_pooled: bool = False) -> dict[str, Any]:
    """Return Django's settings for a database address.

    Args:
        url: ``sqlite:////path``, ``postgres://user:password@host:port/name`` or empty
            for SQLite in the data folder.
        data_dir: the folder that holds the default SQLite file.
        is_pooled: whether a pooler gives each transaction another connection of PostgreSQL.

    Raises:
        ImproperlyConfigured: another kind of database is asked for.
    """
    if not url:
        return _sqlite(data_dir / "annotator.sqlite3")
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(Path(unquote(parts.path)))
    if parts.scheme in {"postgres", "postgresql"}:
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or ""),
            "PORT": str(parts.port or ""),
            "CONN_MAX_AGE": 600,
            "CONN_HEALTH_CHECKS": True,
            # What people wait for is the same few statements again and again: the server keeps them
            # for a connection. A pooler does not: each transaction has another one.
            "DISABLE_SERVER_SIDE_CURSORS": is_pooled,
            "OPTIONS": {
                **dict(parse_qsl(parts.query)),
                "server_side_binding": True,
                "prepare_threshold": None if is_pooled else 5,
            },
        }
    raise ImproperlyConfigured(
        f"{PREFIX}DATABASE_URL: use sqlite:// or postgres://, not {parts.scheme}://"
    )


def _sqlite(path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # IMMEDIATE and the long timeout: a deferred read-then-write fails at once with "database is
    # locked" under load. FULL: an answered label must survive a power cut.
    return {
        "ENGINE": "annotator.sqlite3",
        "CONN_MAX_AGE": 600,
        "NAME": path,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": (
                "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA foreign_keys=ON;"
                "PRAGMA cache_size=-65536;PRAGMA temp_store=MEMORY;"
            ),
        },
    }
