import pytest
from django.conf import settings
from factories import make_project, make_user


@pytest.fixture(autouse=True)
def exports_root(tmp_path, monkeypatch):
    """The folder of exports, empty."""
    root = tmp_path / "exports"
    monkeypatch.setattr(settings, "EXPORTS_ROOT", root)
    return root


@pytest.fixture
def project():
    return make_project(lead=make_user("lead"))
