import os
from pathlib import Path

import pytest
from rest_framework.test import APIClient

DEFAULT_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real image sets; tests that need it are skipped without it."""
    folder = Path(os.environ.get("ANNOTATOR_TEST_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip(f"the real image sets are not at {folder} (set ANNOTATOR_TEST_DATA)")
    return folder


@pytest.fixture
def client_of():
    """Return an API client signed in as the person."""

    def make(user, **headers) -> APIClient:
        client = APIClient(headers=headers)
        client.force_login(user)
        return client

    return make
