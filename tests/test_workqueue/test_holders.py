"""A lead sees who holds what and can release it; whoever leaves a project holds nothing in it."""

import uuid
from datetime import datetime, timedelta

import pytest
from django.urls import reverse
from factories import class_of, make_images, make_member, make_project, make_ranking, now

from annotator.accounts import services as accounts
from annotator.accounts.models import Role
from annotator.events.models import Event
from workqueue import services
from workqueue.models import Lease

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    project = make_project()
    make_ranking(project, make_images(project, 5))
    return project


@pytest.fixture
def lead(project, client_of):
    return client_of(make_member(project, Role.LEAD, "lena"))


@pytest.fixture
def holder(project):
    return make_member(project, name="hanna")


def claim(client, project, n=1):
    body = {"n": n, "client": "tab"}
    return client.post(reverse("api:claim", args=[project.pk]), body, format="json").json()[
        "leases"
    ]


def submit(client, project, lease, name="cat"):
    body = {
        "lease": lease["token"],
        "class_ids": [class_of(project, name).pk],
        "key": uuid.uuid4().hex,
    }
    return client.post(reverse("api:submit", args=[project.pk]), body, format="json")


def release(client, project, person):
    where = reverse("api:release_person", args=[project.pk])
    return client.post(where, {"user": person.pk}, format="json")


def held(lead, project):
    return lead.get(reverse("api:leases", args=[project.pk])).json()["results"]


def image_ids(leases):
    return [lease["image"]["id"] for lease in leases]


def test_a_lead_sees_who_holds_which_image_since_when_and_until_when(
    project, lead, holder, client_of
):
    leases = claim(client_of(holder), project, 2)

    shown = held(lead, project)

    assert [(entry["user_id"], entry["user"]) for entry in shown] == [(holder.pk, "hanna")] * 2
    assert {entry["image_id"] for entry in shown} == set(image_ids(leases))
    for entry in shown:
        since, until = (datetime.fromisoformat(entry[at]) for at in ("granted_at", "expires_at"))
        assert until - since == timedelta(minutes=10)


def test_the_queue_page_lists_the_holders_for_a_lead_alone(project, lead, holder, client_of):
    claim(client_of(holder), project)
    stored = Lease.objects.select_related("image").get()
    where = reverse("queue_settings", args=[project.pk])

    page = lead.get(where).content.decode()
    others = client_of(make_member(project, Role.REVIEWER)).get(where).content.decode()

    card = page.partition("Who has what")[2].partition("</section>")[0]
    assert "hanna" in card
    assert stored.image.file_name in card
    assert f"{stored.granted_at:%H:%M}\N{EN DASH}{stored.expires_at:%H:%M} UTC" in card
    assert reverse("api:release_person", args=[project.pk]) in card
    assert "Who has what" not in others


def test_released_images_return_at_their_old_ranks_and_only_that_persons(
    project, lead, holder, client_of
):
    first = claim(client_of(holder), project, 2)
    other = make_member(project)
    theirs = claim(client_of(other), project)

    answer = release(lead, project, holder)

    assert answer.json() == {"n": 2}
    assert [entry["user_id"] for entry in held(lead, project)] == [other.pk]
    again = claim(client_of(make_member(project)), project, 2)
    assert image_ids(again) == image_ids(first)
    assert image_ids(again) != image_ids(theirs)


def test_what_a_person_holds_in_another_project_stays_with_them(project, lead, holder, client_of):
    elsewhere = make_project()
    make_images(elsewhere, 1)
    accounts.set_role(
        project_id=elsewhere.pk, user=holder, role=Role.ANNOTATOR, actor=elsewhere.created_by
    )
    claim(client_of(holder), elsewhere)

    assert release(lead, project, holder).json() == {"n": 0}
    assert Lease.objects.get().state == Lease.State.LIVE


def test_the_log_tells_who_released_whose_leases_and_how_many(project, lead, holder, client_of):
    claim(client_of(holder), project, 2)

    release(lead, project, holder)
    release(lead, project, holder)

    event = Event.objects.get(kind="leases.released")
    assert event.actor.username == "lena"
    assert event.payload == {"user": holder.pk, "n": 2}


@pytest.mark.parametrize(
    ("meanwhile", "outcome"),
    [("nothing", "accepted"), ("claimed", "late"), ("labelled", "second")],
)
def test_a_label_sent_after_the_release_is_kept_with_its_outcome(
    project, lead, holder, client_of, meanwhile, outcome
):
    (lease,) = claim(client_of(holder), project)
    release(lead, project, holder)
    other = client_of(make_member(project))
    if meanwhile != "nothing":
        (theirs,) = claim(other, project)
        assert theirs["image"] == lease["image"]
        if meanwhile == "labelled":
            submit(other, project, theirs, "dog")

    answer = submit(client_of(holder), project, lease)

    assert answer.status_code == 201
    assert answer.json()["annotation"]["outcome"] == outcome


def test_the_holder_is_told_at_the_next_heartbeat(project, lead, holder, client_of):
    (lease,) = claim(client_of(holder), project)
    release(lead, project, holder)

    where = reverse("api:heartbeat", args=[project.pk, lease["token"]])
    answer = client_of(holder).post(where, {}, format="json")

    assert answer.status_code == 409
    assert answer.json()["code"] == "lease-lost"


@pytest.mark.parametrize("body", [{}, {"user": "hanna"}, {"user": 10**30}, {"user": 0}])
def test_a_release_of_nobody_is_refused(project, lead, body):
    where = reverse("api:release_person", args=[project.pk])

    assert lead.post(where, body, format="json").status_code == 400


def test_what_a_removed_member_held_is_free_at_once(project, lead, holder, client_of):
    leases = claim(client_of(holder), project, 2)
    elsewhere = make_project()
    make_images(elsewhere, 1)
    accounts.set_role(
        project_id=elsewhere.pk, user=holder, role=Role.ANNOTATOR, actor=elsewhere.created_by
    )
    claim(client_of(holder), elsewhere)

    gone = lead.delete(reverse("api:member", args=[project.pk, holder.pk]))

    assert gone.status_code == 204
    assert held(lead, project) == []
    assert image_ids(claim(client_of(make_member(project)), project, 2)) == image_ids(leases)
    assert Lease.objects.filter(project=elsewhere, state=Lease.State.LIVE).count() == 1


# --- The longest hold ---------------------------------------------------------------------------

MINUTE = timedelta(minutes=1)


def hold(project, n):
    services.change_settings(
        project=project, actor=project.created_by, changes={"hold_leases": n, "lease_minutes": 10}
    )


def heartbeat(user, project, lease, at):
    return services.heartbeat(user=user, project=project, lease_token=str(lease.token), now=at)


def test_heartbeats_hold_an_image_no_longer_than_the_longest_hold(project, holder):
    hold(project, 3)
    start = now()
    (lease,) = services.claim(user=holder, project=project, n=1, now=start).leases

    ends = [heartbeat(holder, project, lease, start + n * 6 * MINUTE) for n in range(1, 5)]

    assert [(end - start) / MINUTE for end in ends] == [16, 22, 28, 30]
    other = make_member(project)
    before, after = start + 29.9 * MINUTE, start + 30 * MINUTE
    (theirs,) = services.claim(user=other, project=project, n=1, now=before).leases
    assert theirs.image != lease.image
    with pytest.raises(services.LeaseLostError, match="as long as one person may"):
        heartbeat(holder, project, lease, after)
    (theirs,) = services.claim(user=other, project=project, n=1, now=after, client="b").leases
    assert theirs.image == lease.image


def test_claiming_again_and_again_holds_an_image_no_longer_either(project, holder):
    hold(project, 2)
    start = now()
    asked = {"user": holder, "project": project, "client": "tab"}
    (lease,) = services.claim(**asked, n=1, now=start).leases

    for n in (8, 16):
        (held,) = services.claim(**asked, n=0, now=start + n * MINUTE).leases
        assert held == lease
    assert held.expires_at - start == 20 * MINUTE

    assert services.claim(**asked, n=0, now=start + 20 * MINUTE).leases == []


def test_a_shorter_longest_hold_takes_nothing_away_from_who_holds_an_image(project, holder):
    start = now()
    (lease,) = services.claim(user=holder, project=project, n=1, now=start).leases
    heartbeat(holder, project, lease, start + 9 * MINUTE)
    hold(project, 1)

    until = heartbeat(holder, project, lease, start + 12 * MINUTE)

    assert (until - start) / MINUTE == 19


def test_by_default_an_image_is_held_for_twelve_leases(project, holder):
    start = now()
    (lease,) = services.claim(user=holder, project=project, n=1, now=start).leases

    ends = [heartbeat(holder, project, lease, start + n * 9 * MINUTE) for n in range(1, 14)]

    assert max(ends) - start == 120 * MINUTE
    with pytest.raises(services.LeaseLostError):
        heartbeat(holder, project, lease, start + 120 * MINUTE)
