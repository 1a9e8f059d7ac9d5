import pytest
from django.db import OperationalError, connection

pytestmark = pytest.mark.django_db


def no_database(*_):
    raise OperationalError("the server closed the connection")


def test_a_process_without_its_database_lives_but_is_not_ready(client):
    assert client.get("/health/ready").status_code == 200

    with connection.execute_wrapper(no_database):
        live, ready = client.get("/health/live"), client.get("/health/ready")

    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert ready.status_code == 503
    assert ready.json() == {"status": "the database does not answer"}


def test_a_missing_worker_is_named_and_makes_it_unready_only_for_who_asks(client):
    plain, strict = client.get("/health/ready"), client.get("/health/ready?workers=1")

    assert plain.json()["status"] == "waiting for workers"
    assert "train" in plain.json()["queues_without_worker"]
    assert (plain.status_code, strict.status_code) == (200, 503)
