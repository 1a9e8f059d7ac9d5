"""Whoever follows the feed of events misses none."""

import threading

import pytest
from django.db import connection, transaction
from django.urls import reverse
from factories import make_project
from load_kit import in_parallel

from annotator.events import services as events
from annotator.events.models import Event

pytestmark = pytest.mark.django_db(transaction=True)


def record(project, name):
    events.record(kind="test", project_id=project.pk, actor_id=None, payload={"name": name})


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_an_event_waits_in_the_feed_for_an_older_one_that_is_not_committed_yet(client_of):
    project = make_project()
    client = client_of(project.created_by)
    feed = reverse("api:events", args=[project.pk])
    start = client.get(feed).json()["after"]
    has_begun, may_commit = threading.Event(), threading.Event()

    def names(after):
        found = client.get(f"{feed}?after={after}").json()["results"]
        return [entry["payload"]["name"] for entry in found]

    def slow():
        with transaction.atomic():
            record(project, "slow")
            has_begun.set()
            assert may_commit.wait(30)

    def fast():
        assert has_begun.wait(30)
        record(project, "fast")
        try:
            return names(start)
        finally:
            may_commit.set()

    _, seen_meanwhile = in_parallel(slow, fast)

    assert Event.objects.filter(kind="test").count() == 2
    assert seen_meanwhile == []
    assert names(start) == ["slow", "fast"]


def test_what_one_has_just_done_is_in_the_feed(client_of):
    project = make_project()
    client = client_of(project.created_by)
    feed = reverse("api:events", args=[project.pk])

    with transaction.atomic():
        record(project, "mine")
        with transaction.atomic():
            record(project, "mine, in a savepoint")
        seen = [entry["payload"].get("name") for entry in client.get(feed).json()["results"]]

    assert seen[-2:] == ["mine", "mine, in a savepoint"]
