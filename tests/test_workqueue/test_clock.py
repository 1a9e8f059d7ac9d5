"""Leases go by the database's clock, whatever the clock of a web or worker process says."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from factories import HOUR, class_of, make_images, make_member, make_project, make_ranking

from annotator.accounts.models import Role
from annotator.clock import database_now
from workqueue import tasks
from workqueue.models import Lease

pytestmark = pytest.mark.django_db
LEASE = timedelta(minutes=10)
A_MOMENT = timedelta(seconds=20)
MINUTE = timedelta(minutes=1)


@pytest.fixture(params=[HOUR, -HOUR], ids=["fast", "slow"])
def wrong_clock(request, monkeypatch):
    """Let the clock of this process be wrong by an hour, but not the database's."""
    monkeypatch.setattr(timezone, "now", lambda: datetime.now(UTC) + request.param)


@pytest.fixture
def project():
    project = make_project()
    make_ranking(project, make_images(project, 3))
    return project


def post(asking, name, project, *more, **body):
    return asking.post(reverse(f"api:{name}", args=[project.pk, *more]), body, format="json")


def claimed(client, project):
    (lease,) = post(client, "claim", project, client="tab").json()["leases"]
    return lease


def submitted(client, project, lease):
    body = {"lease": lease["token"], "class_ids": [class_of(project).pk]}
    address = reverse("api:submit", args=[project.pk])
    return client.post(address, body | {"key": uuid.uuid4().hex}, format="json").json()


def move_end(lease, by):
    """Let the lease end at a time relative to the true one."""
    Lease.objects.filter(token=lease["token"]).update(expires_at=datetime.now(UTC) + by)


def test_the_databases_clock_is_finer_than_a_second_and_goes_on_inside_a_transaction():
    times = [database_now() for _ in range(200)]

    assert times == sorted(times)
    assert any(moment.microsecond for moment in times)
    assert times[0] < times[-1]
    assert abs(times[0] - datetime.now(UTC)) < A_MOMENT


@pytest.mark.usefixtures("wrong_clock")
def test_a_lease_starts_and_is_prolonged_by_the_databases_clock(project, client_of):
    client = client_of(make_member(project))

    lease = claimed(client, project)
    stored = Lease.objects.get()
    assert abs(stored.granted_at - datetime.now(UTC)) < A_MOMENT
    assert stored.expires_at - stored.granted_at == LEASE

    move_end(lease, MINUTE)
    answer = post(client, "heartbeat", project, lease["token"])
    until = datetime.fromisoformat(answer.json()["expires_at"])
    assert abs(until - LEASE - datetime.now(UTC)) < A_MOMENT


@pytest.mark.usefixtures("wrong_clock")
def test_a_running_lease_is_kept_its_label_in_time_and_its_undo_a_new_lease(project, client_of):
    holder, other = client_of(make_member(project)), client_of(make_member(project))
    lease = claimed(holder, project)
    move_end(lease, MINUTE)

    tasks.keep_house()

    assert claimed(other, project)["image"] != lease["image"]
    given = submitted(holder, project, lease)
    assert given["annotation"]["outcome"] == "accepted"
    assert given["status"]["n_leased"] == 1
    undone = post(holder, "undo", project, annotation=given["annotation"]["id"]).json()
    assert undone["status"]["n_leased"] == 2
    until = datetime.fromisoformat(undone["lease"]["expires_at"])
    assert abs(until - LEASE - datetime.now(UTC)) < A_MOMENT


@pytest.mark.usefixtures("wrong_clock")
def test_a_lease_that_has_run_out_is_over(project, client_of):
    holder, other = client_of(make_member(project)), client_of(make_member(project))
    lease = claimed(holder, project)
    move_end(lease, -MINUTE)

    assert post(holder, "heartbeat", project, lease["token"]).status_code == 409
    assert claimed(other, project)["image"]["id"] == lease["image"]["id"]
    assert submitted(holder, project, lease)["annotation"]["outcome"] == "late"


@pytest.mark.usefixtures("wrong_clock")
def test_the_clock_of_the_house_ends_what_has_run_out_and_nothing_else(project, client_of):
    over = claimed(client_of(make_member(project)), project)
    running = claimed(client_of(make_member(project)), project)
    move_end(over, -MINUTE)
    move_end(running, MINUTE)

    tasks.keep_house()

    states = {str(lease.token): lease.state for lease in Lease.objects.all()}
    assert states == {over["token"]: Lease.State.EXPIRED, running["token"]: Lease.State.LIVE}


@pytest.mark.usefixtures("wrong_clock")
def test_who_holds_what_is_counted_by_the_databases_clock(project, client_of):
    over = claimed(client_of(make_member(project)), project)
    running = claimed(client_of(make_member(project)), project)
    move_end(over, -MINUTE)
    move_end(running, MINUTE)
    lead = client_of(make_member(project, Role.LEAD))

    held = lead.get(reverse("api:leases", args=[project.pk])).json()["results"]
    status = lead.get(reverse("api:status", args=[project.pk])).json()

    assert [lease["token"] for lease in held] == [running["token"]]
    assert status["n_leased"] == 1


@pytest.mark.usefixtures("wrong_clock")
def test_a_skip_is_taken_back_while_the_clock_is_wrong(project, client_of):
    client = client_of(make_member(project))
    lease = claimed(client, project)
    claimed(client_of(make_member(project)), project)
    skip = reverse("api:skip", args=[project.pk, lease["token"]])

    skipped = client.post(skip, {}, format="json").json()
    back = post(client, "unskip", project, lease=lease["token"]).json()

    assert skipped["status"]["n_leased"] == 1
    assert back["status"]["n_leased"] == 2
    until = datetime.fromisoformat(back["lease"]["expires_at"])
    assert abs(until - LEASE - datetime.now(UTC)) < A_MOMENT
