"""Who is removed, or gets another role, while they work."""

import uuid

import pytest
from django.urls import reverse
from factories import class_of, make_images, make_member, make_project, make_ranking, make_user, now
from rest_framework.test import APIClient

from annotator.accounts import services as accounts
from annotator.accounts.models import ApiToken, Role, Scope
from annotator.events.models import Event
from annotator.labeling.models import Annotation, Image, Project
from workqueue.models import QueueState

pytestmark = pytest.mark.django_db


def address(name, project, *more):
    return reverse(f"api:{name}", args=[project.pk, *more])


@pytest.fixture
def project():
    project = make_project()
    make_ranking(project, make_images(project, 3))
    return project


@pytest.fixture
def lead(project, client_of):
    return client_of(make_member(project, Role.LEAD, "lena"))


@pytest.fixture
def worker(project):
    return make_member(project, name="willi")


def claimed(client, project):
    answer = client.post(address("claim", project), {"client": "tab"}, format="json")
    return answer.json()["leases"][0]


def submit(client, project, lease, name="cat", key=""):
    body = {
        "lease": lease["token"],
        "class_ids": [class_of(project, name).pk],
        "key": key or uuid.uuid4().hex,
    }
    return client.post(address("submit", project), body, format="json")


def remove(lead, project, person):
    assert lead.delete(address("member", project, person.pk)).status_code == 204


def test_a_label_in_flight_of_a_removed_member_is_kept_once_and_does_not_count(
    project, lead, worker, client_of
):
    client = client_of(worker)
    lease = claimed(client, project)
    remove(lead, project, worker)

    first = submit(client, project, lease, key="k")
    again = submit(client, project, lease, key="k")

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["annotation"]["outcome"] == "after_removal"
    assert again.json()["annotation"] == first.json()["annotation"]
    assert "removed from this project" in first.json()["message"]
    assert first.json()["status"] is None
    assert Annotation.objects.get().is_current is False
    assert Project.objects.get().n_labelled == 0
    assert QueueState.objects.get().labels_since_round == 0


def program_of(person, scope):
    made = accounts.create_token(user=person, name="bot", now=now(), scope=scope)
    return APIClient(headers={"Authorization": f"Bearer {made.secret}"})


def test_a_label_in_flight_of_a_removed_members_program_is_kept_if_its_token_may_label(
    project, lead, worker
):
    program = program_of(worker, Scope.ANNOTATE)
    lease = claimed(program, project)
    remove(lead, project, worker)

    reader = submit(program_of(worker, Scope.READ), project, lease)
    given = submit(program, project, lease)

    assert (reader.status_code, reader.json()["code"]) == (403, "scope-missing")
    assert given.status_code == 201
    assert given.json()["annotation"]["outcome"] == "after_removal"
    assert program.get(address("status", project)).status_code == 404


def test_a_service_that_was_taken_out_has_no_token_to_send_a_label_with(project, lead):
    lena = project.created_by
    made = accounts.create_service_token(
        project_id=project.pk, name="bot", scope=Scope.ANNOTATE, actor=lena, now=now()
    )
    service = APIClient(headers={"Authorization": f"Bearer {made.secret}"})
    lease = claimed(service, project)
    remove(lead, project, ApiToken.objects.get(pk=made.pk).user)

    assert submit(service, project, lease).status_code == 401
    assert not Annotation.objects.exists()


def test_the_image_is_asked_of_somebody_else_at_its_old_place(project, lead, worker, client_of):
    client = client_of(worker)
    lease = claimed(client, project)
    remove(lead, project, worker)
    submit(client, project, lease)

    other = client_of(make_member(project))
    theirs = claimed(other, project)

    assert (theirs["image"]["id"], theirs["why"]["position"]) == (lease["image"]["id"], 1)
    assert submit(other, project, theirs, "dog").json()["annotation"]["outcome"] == "accepted"
    assert Image.objects.get(pk=theirs["image"]["id"]).status == Image.Status.LABELLED


def test_what_was_labelled_before_the_removal_counts_and_is_not_changed_by_what_comes_after(
    project, lead, worker, client_of
):
    client = client_of(worker)
    lease = claimed(client, project)
    assert submit(client, project, lease, "cat").json()["annotation"]["outcome"] == "accepted"
    remove(lead, project, worker)

    assert submit(client, project, lease, "dog").json()["annotation"]["outcome"] == "after_removal"

    standing = Annotation.objects.get(is_current=True)
    assert [region.label_class.name for region in standing.regions.all()] == ["cat"]
    assert Project.objects.get().n_labelled == 1


def test_leads_see_what_was_kept_and_why(project, lead, worker, client_of):
    client = client_of(worker)
    lease = claimed(client, project)
    remove(lead, project, worker)
    submit(client, project, lease)

    (kept,) = lead.get(address("kept_labels", project)).json()["results"]
    page = lead.get(reverse("progress", args=[project.pk])).content.decode()

    assert (kept["author"], kept["classes"], kept["outcome"]) == ("willi", ["cat"], "after_removal")
    assert kept["file_name"] == lease["image"]["file_name"]
    assert "the person was removed meanwhile" in kept["reason"]
    card = page.partition("Kept, but not counted")[2].partition("</section>")[0]
    assert "willi" in card
    assert lease["image"]["file_name"] in card
    event = Event.objects.get(kind="annotation.created")
    assert event.payload["outcome"] == "after_removal"


def test_everything_else_of_a_removed_member_is_404(project, lead, worker, client_of):
    client = client_of(worker)
    lease = claimed(client, project)
    remove(lead, project, worker)

    for name, more in (
        ("claim", []),
        ("heartbeat", [lease["token"]]),
        ("skip", [lease["token"]]),
        ("unskip", []),
        ("undo", []),
    ):
        answer = client.post(address(name, project, *more), {}, format="json")
        assert (name, answer.status_code) == (name, 404)
    assert client.get(address("status", project)).status_code == 404
    unknown = {"token": str(uuid.uuid4())}
    assert submit(client, project, unknown).status_code == 404
    assert client.post(address("submit", project), {}, format="json").status_code == 404


def test_nobody_else_can_use_the_lease_of_a_removed_member(project, lead, worker, client_of):
    lease = claimed(client_of(worker), project)
    remove(lead, project, worker)

    assert submit(client_of(make_user()), project, lease).status_code == 404
    assert not Annotation.objects.exists()


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(Role.LEAD, "annotator", 403), (Role.ANNOTATOR, "lead", 201)],
)
def test_another_role_holds_from_the_next_request_on(
    project, lead, client_of, before, after, status
):
    member = make_member(project, before)
    client = client_of(member)
    lease = claimed(client, project)

    lead.patch(address("member", project, member.pk), {"role": after}, format="json")

    assert client.post(address("rounds", project), {}, format="json").status_code == status
    assert submit(client, project, lease).json()["annotation"]["outcome"] == "accepted"
