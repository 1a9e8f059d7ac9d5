"""Past rankings, and one lease, over the API."""

import uuid
from datetime import timedelta

import pytest
from django.urls import reverse
from factories import (
    class_of,
    make_images,
    make_label,
    make_member,
    make_project,
    make_ranking,
    now,
)

from annotator.accounts.models import Role
from annotator.labeling import services as labeling
from workqueue import housekeeping, services
from workqueue.models import Lease, ModelVersion, Ranking, Round, Skip

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project()


@pytest.fixture
def images(project):
    return make_images(project, 3)


@pytest.fixture
def reviewer(project, client_of):
    return client_of(make_member(project, Role.REVIEWER))


def finished(project, images, **fields):
    """A ranking with the round that made it."""
    ranking = make_ranking(project, images, **fields)
    Round.objects.create(
        project=project, number=ranking.number, trigger="batch", state="done", ranking=ranking
    )
    return ranking


def get(client, project, name, **query):
    return client.get(reverse(f"api:{name}", args=[project.pk]), query)


def order(answer):
    assert answer.status_code == 200, answer.content
    return [entry["image"]["id"] for entry in answer.json()["results"]]


# --- Rankings ---------------------------------------------------------------------------------


def test_rankings_are_listed_with_what_made_them(project, images, reviewer):
    model = ModelVersion.objects.create(
        project=project, number=4, backbone="b", class_ids=[], folder="f", sha256="0" * 64,
        n_labels=9,
    )  # fmt: skip
    finished(project, images[:1])
    finished(project, images, model_version=model)

    newest, first = get(reviewer, project, "rankings").json()["results"]

    assert (newest["number"], newest["heuristic"], newest["n_positions"]) == (2, "margin", 3)
    assert newest["model"] == {"id": model.pk, "number": 4}
    assert newest["created_at"]
    assert (newest["is_current"], newest["is_kept"]) == (True, True)
    assert (first["number"], first["model"], first["is_current"]) == (1, None, False)


def test_a_ranking_that_was_never_served_is_not_listed(project, images, reviewer):
    finished(project, images)
    Ranking.objects.create(
        project=project, number=2, kind="heuristic", heuristic="margin",
        n_pool=3, n_candidates=3, n_positions=3,
    )  # fmt: skip

    listed = get(reviewer, project, "rankings").json()["results"]

    assert [entry["number"] for entry in listed] == [1]
    assert get(reviewer, project, "ranking", number=2).status_code == 404


def test_a_past_ranking_is_shown_as_it_was(project, images, reviewer):
    finished(project, images)
    finished(project, images[::-1])
    make_label(images[0], project.created_by, class_of(project))
    first, second, third = (image.pk for image in images)

    assert order(get(reviewer, project, "ranking")) == [third, second]
    assert order(get(reviewer, project, "ranking", number=1)) == [first, second, third]
    assert order(get(reviewer, project, "ranking", number=2)) == [third, second, first]
    labeling.delete_image(image=images[1], actor=project.created_by, now=now())
    assert order(get(reviewer, project, "ranking", number=1)) == [first, third]


def test_pages_of_a_past_ranking_follow_each_other(project, images, reviewer):
    finished(project, images)
    finished(project, images[::-1])

    page = get(reviewer, project, "ranking", number=1, limit=2)

    assert order(page) == [images[0].pk, images[1].pk]
    assert order(reviewer.get(page.json()["next"])) == [images[2].pk]


def test_a_ranking_whose_positions_were_dropped_says_so(project, images, reviewer):
    old = finished(project, images)
    for _ in range(housekeeping.RANKINGS_KEPT):
        finished(project, images)
    Ranking.objects.update(created_at=now() - timedelta(hours=2))
    housekeeping._drop_old_positions(now())

    answer = get(reviewer, project, "ranking", number=old.number)

    assert answer.status_code == 404
    assert "no longer kept" in answer.json()["detail"]
    kept = {e["number"]: e["is_kept"] for e in get(reviewer, project, "rankings").json()["results"]}
    assert kept[old.number] is False
    assert set(kept.values()) == {True, False}


@pytest.mark.parametrize("number", ["0", "x", "-1", str(2**31)])
def test_a_number_that_is_none_is_refused(project, reviewer, number):
    assert get(reviewer, project, "ranking", number=number).status_code == 400


def test_rankings_of_other_projects_are_not_reached(project, images, reviewer):
    other = make_project()
    finished(other, make_images(other, 1))

    assert get(reviewer, project, "rankings").json()["results"] == []
    assert get(reviewer, project, "ranking", number=1).status_code == 404


# --- One lease --------------------------------------------------------------------------------


@pytest.fixture
def person(project):
    return make_member(project)


@pytest.fixture
def lease(project, images, person):
    make_ranking(project, images)
    (lease,) = services.claim(user=person, project=project, n=1, client="t", now=now()).leases
    return lease


def show(client, lease, project=None):
    return client.get(reverse("api:lease", args=[(project or lease.project).pk, lease.token]))


def test_a_lease_shows_its_image_and_until_when_it_is_held(images, person, lease, client_of):
    shown = show(client_of(person), lease).json()

    assert (shown["token"], shown["state"]) == (str(lease.token), "live")
    assert shown["image"]["id"] == images[0].pk
    assert shown["why"]["position"] == 1
    assert shown["expires_at"] == lease.expires_at.isoformat()
    assert shown["granted_at"] == lease.granted_at.isoformat()


def test_a_lease_says_what_became_of_it(project, person, lease, client_of):
    client = client_of(person)

    Lease.objects.update(expires_at=now() - timedelta(seconds=1))
    assert show(client, lease).json()["state"] == "expired"
    services.submit(
        user=person, project=project, key=uuid.uuid4().hex, lease_token=str(lease.token),
        class_ids=[class_of(project).pk], now=now(),
    )  # fmt: skip
    assert show(client, lease).json()["state"] == "submitted"
    other = services.claim(user=person, project=project, n=1, client="t", now=now()).leases[0]
    services.skip(
        user=person, project=project, lease_token=str(other.token), reason=Skip.Reason.UNSURE
    )
    assert show(client, other).json()["state"] == "skipped"


def test_a_lease_is_shown_to_its_holder_alone(project, lease, person, client_of):
    lead = client_of(make_member(project, Role.LEAD))

    assert show(lead, lease).json()["code"] == "lease-unknown"
    assert show(client_of(make_member(project)), lease).status_code == 404
    other = make_project(lead=make_member(project))
    assert show(client_of(other.created_by), lease, project=other).status_code == 404
