import os
from pathlib import Path

import pytest
from django.db.backends.sqlite3.base import DatabaseOperations
from rest_framework.test import APIClient

DEFAULT_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real image sets; tests that need it are skipped without it."""
    folder = Path(os.environ.get("ANNOTATOR_TEST_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip(f"the real image sets are not at {folder} (set ANNOTATOR_TEST_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _history_may_be_emptied_between_tests():
    """SQLite empties tables by DELETE, which the triggers of history refuse: put them aside."""
    flush = DatabaseOperations.execute_sql_flush

    def flush_without_triggers(operations, statements):
        with operations.connection.cursor() as cursor:
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            triggers = cursor.fetchall()
            for name, _ in triggers:
                cursor.execute(f"DROP TRIGGER {name}")
            flush(operations, statements)
            for _, create in triggers:
                cursor.execute(create)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", flush_without_triggers)
        yield


@pytest.fixture
def client_of():
    """Return an API client signed in as the person."""

    def make(user, **headers) -> APIClient:
        client = APIClient(headers=headers)
        client.force_login(user)
        return client

    return make
