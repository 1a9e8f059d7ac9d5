import pytest
from client_kit import token_for
from factories import make_project, make_user

from annotator_client import Client


@pytest.fixture
def lead(live_server):
    """A person on a real web server."""
    return make_user("the-lead")


@pytest.fixture
def token(lead) -> str:
    return token_for(lead)


@pytest.fixture
def client(live_server, token):
    with Client(live_server.url, token, patience_s=20) as client:
        yield client


@pytest.fixture
def project(client, lead):
    return client.project(make_project(lead=lead).pk)
