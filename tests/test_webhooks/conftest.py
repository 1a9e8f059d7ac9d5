import socket

import pytest
from factories import make_project, make_user
from receiver_kit import Names, RawServer, Receiver


@pytest.fixture
def lead():
    return make_user()


@pytest.fixture
def project(lead):
    return make_project(lead=lead)


@pytest.fixture
def client(client_of, lead):
    return client_of(lead)


@pytest.fixture
def names(monkeypatch):
    """No test asks a real name server."""
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    return names


@pytest.fixture
def start(settings):
    """Start servers that this installation trusts, unless told otherwise."""
    started = []

    def make(server, *, trusted: bool = True):
        started.append(server)
        settings.OUTBOUND_PORTS = [*settings.OUTBOUND_PORTS, server.port]
        if trusted:
            settings.OUTBOUND_ALLOW = [*settings.OUTBOUND_ALLOW, "127.0.0.1"]
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def receiver(start):
    return start(Receiver())


@pytest.fixture
def raw(start):
    return lambda talk: start(RawServer(talk))
