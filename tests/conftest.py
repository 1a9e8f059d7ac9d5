import os
import shutil
from pathlib import Path

import contract_kit
import pytest
from django.conf import settings
from django.db import connection
from rest_framework.test import APIClient

from annotator.accounts import throttling

DEFAULT_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption(
        "--write-golden", action="store_true", help="write the files in tests/golden anew"
    )
    parser.addoption(
        "--long", action="store_true", help="let the tests that try at random try for longer"
    )


@pytest.fixture
def write_golden(request) -> bool:
    """Whether the reviewed answers are to be written anew."""
    return request.config.getoption("--write-golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real image sets; tests that need it are skipped without it."""
    folder = Path(os.environ.get("ANNOTATOR_TEST_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip(f"the real image sets are not at {folder} (set ANNOTATOR_TEST_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _a_test_leaves_no_history():
    """Let the clearing of the database after a test pass the triggers of the history.

    On PostgreSQL it is a TRUNCATE, which they let pass; on SQLite it is a DELETE.
    """
    if connection.vendor != "sqlite":
        yield
        return
    operations = type(connection.ops)
    plain = operations.sql_flush

    def sql_flush(self, *args, **options):
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            triggers = cursor.fetchall()
        dropped = [f"DROP TRIGGER {name}" for name, _ in triggers]
        return [*dropped, *plain(self, *args, **options), *(sql for _, sql in triggers)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "sql_flush", sql_flush)
        yield


@pytest.fixture(scope="session", autouse=True)
def _every_answer_is_in_the_schema():
    """Hold what the API answers in any test against its schema."""
    with pytest.MonkeyPatch.context() as patch:
        contract_kit.watch(patch)
        yield


@pytest.fixture(autouse=True)
def _nobody_has_asked_yet():
    """Users of different tests have the same numbers: forget what was counted for them."""
    throttling.rates.clear()


@pytest.fixture(autouse=True)
def _a_test_leaves_no_files():
    """Rows are taken back and their numbers used again: the next model may have the same folder."""
    yield
    for folder in (settings.MODELS_ROOT, settings.UPLOADS_ROOT):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def client_of():
    """Return an API client signed in as the person."""

    def make(user, **headers) -> APIClient:
        client = APIClient(headers=headers)
        client.force_login(user)
        return client

    return make
