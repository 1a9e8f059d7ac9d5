from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from factories import make_images, make_member, make_project, make_ranking

from annotator.clock import database_now
from workqueue import housekeeping, tasks
from workqueue.models import Lease

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[timedelta(hours=-1), timedelta(hours=1)], ids=["slow", "fast"])
def wrong_clock(monkeypatch, request):
    """The clock of the web server and the worker is an hour wrong; the database's is right."""
    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + request.param)


def test_the_databases_clock_is_aware_and_right():
    assert abs(database_now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_leases_follow_the_databases_clock_whatever_the_servers_say(wrong_clock, client_of):
    project = make_project()
    make_ranking(project, make_images(project, 3))
    client, other = (client_of(make_member(project)) for _ in range(2))

    def call(who, name, *more, **body):
        return who.post(reverse(f"api:{name}", args=[project.pk, *more]), body, format="json")

    first = call(client, "claim", n=1).json()["leases"][0]
    tasks.keep_house()
    second = call(other, "claim", n=1).json()["leases"][0]
    beat = call(client, "heartbeat", first["token"])

    assert first["image"]["id"] != second["image"]["id"]
    assert beat.status_code == 200
    lease = Lease.objects.get(token=first["token"])
    assert lease.state == Lease.State.LIVE
    remaining = lease.expires_at - datetime.now(UTC)
    assert timedelta(minutes=9) < remaining <= timedelta(minutes=10)


def test_a_lease_ends_at_its_time_and_no_second_sooner(client_of):
    project = make_project()
    make_ranking(project, make_images(project, 1))
    client = client_of(make_member(project))
    client.post(reverse("api:claim", args=[project.pk]), {"n": 1}, format="json")
    lease = Lease.objects.get()

    housekeeping.keep_house(now=lease.expires_at - timedelta(seconds=1))
    lease.refresh_from_db()
    assert lease.state == Lease.State.LIVE

    housekeeping.keep_house(now=lease.expires_at + timedelta(seconds=1))
    lease.refresh_from_db()
    assert lease.state == Lease.State.EXPIRED
