"""The labels of a project: listed for reviewers, and given by programs outside the queue."""

import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
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
from annotator.events.models import Event
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image
from workqueue import selectors, services
from workqueue.models import Lease, RankedImage, Round
from workqueue.requests import settings_of, state_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project()


@pytest.fixture
def images(project):
    images = make_images(project, 4)
    make_ranking(project, images)
    return images


@pytest.fixture
def anna(project):
    return make_member(project, name="anna")


@pytest.fixture
def ben(project):
    return make_member(project, name="ben")


@pytest.fixture
def reviewer(project, client_of):
    return client_of(make_member(project, Role.REVIEWER))


@pytest.fixture
def say(project, client_of):
    """Label an image outside the queue, over the API."""

    def post(user, image, name="cat", **more):
        named = {"image": image.pk} if isinstance(image, Image) else {"external_id": image}
        body = {**named, "class_ids": [class_of(project, name).pk]}
        headers = more.pop("headers", {})
        return client_of(user).post(address(project), body | more, "json", headers=headers)

    return post


def address(project, name="annotations"):
    return reverse(f"api:{name}", args=[project.pk])


def claim(user, project, n=1, at=None):
    claimed = services.claim(user=user, project=project, n=n, client="t", now=at or now())
    return claimed.leases


def submit(lease, name="cat"):
    return services.submit(
        user=lease.user,
        project=lease.project,
        key=uuid.uuid4().hex,
        lease_token=str(lease.token),
        class_ids=[class_of(lease.project, name).pk],
        now=now(),
    ).answer


def overlap(project, n):
    services.change_settings(
        project=project, actor=project.created_by, changes={"annotators_per_image": n}
    )


def stands(image):
    current = Annotation.objects.filter(image=image, is_current=True).order_by("pk")
    return [(row.author.username, row.regions.get().label_class.name) for row in current]


def counted(project):
    project.refresh_from_db()
    return project.n_labelled, project.n_labels, state_of(project).labels_since_round


# --- Labels outside the queue -----------------------------------------------------------------


def test_a_label_outside_the_queue_counts_as_any_other(project, images, anna, say):
    answer = say(anna, images[2], seconds=3.5)

    assert answer.status_code == 201
    label = answer.json()["annotation"]
    assert (label["image_id"], label["action"], label["outcome"]) == (
        images[2].pk, "label", "accepted",
    )  # fmt: skip
    assert (label["author"], label["seconds"]) == ("anna", 3.5)
    assert answer["ETag"] == f'"{label["id"]}"'
    assert stands(images[2]) == [("anna", "cat")]
    assert counted(project) == (1, 1, 1)
    assert RankedImage.objects.get(image=images[2]).is_done
    event = Event.objects.get(kind="annotation.created")
    assert (event.actor, event.payload["annotation"]) == (anna, label["id"])
    assert [lease.image for lease in claim(anna, project, 4)] == [images[0], images[1], images[3]]


def test_an_image_is_named_by_its_external_id_too(project, images, anna, say):
    Image.objects.filter(pk=images[1].pk).update(external_id="cam/1")

    answer = say(anna, "cam/1").json()["annotation"]

    assert (answer["image_id"], answer["external_id"]) == (images[1].pk, "cam/1")
    assert say(anna, "cam/2").status_code == 404


def test_what_the_person_holds_of_the_image_is_answered(project, images, anna, say):
    (lease,) = claim(anna, project)

    label = say(anna, images[0]).json()["annotation"]

    lease.refresh_from_db()
    assert lease.state == Lease.State.SUBMITTED
    assert (label["outcome"], label["served"]["position"]) == ("accepted", 1)
    assert Lease.objects.filter(image=images[0]).count() == 1


def test_a_lease_that_has_run_out_makes_the_label_late(project, images, anna, say):
    claim(anna, project, at=now() - timedelta(hours=1))

    answer = say(anna, images[0]).json()

    assert answer["annotation"]["outcome"] == "late"
    assert "your label counts all the same" in answer["message"]
    assert counted(project) == (1, 1, 1)


def test_who_has_the_image_on_the_screen_keeps_it_and_both_labels_are_kept(
    project, images, anna, ben, say
):
    (lease,) = claim(ben, project)

    answer = say(anna, images[0]).json()

    lease.refresh_from_db()
    assert (answer["annotation"]["outcome"], lease.state) == ("late", Lease.State.LIVE)
    assert submit(lease, "dog")["outcome"] == "second"
    assert stands(images[0]) == [("anna", "cat"), ("ben", "dog")]
    assert counted(project) == (1, 2, 1)


def test_a_label_beyond_those_wanted_is_kept_as_a_second_one(project, images, anna, ben, say):
    say(ben, images[0])

    answer = say(anna, images[0], "dog").json()

    assert answer["annotation"]["outcome"] == "second"
    assert "beside theirs" in answer["message"]
    assert stands(images[0]) == [("ben", "cat"), ("anna", "dog")]
    assert counted(project) == (1, 2, 1)


def test_the_former_label_of_the_person_is_replaced_and_stays_in_the_history(
    project, images, anna, say
):
    first = say(anna, images[0]).json()["annotation"]

    second = say(anna, images[0], "dog").json()["annotation"]

    assert (second["action"], second["outcome"]) == ("edit", "accepted")
    assert Annotation.objects.get(pk=second["id"]).replaces_id == first["id"]
    assert stands(images[0]) == [("anna", "dog")]
    assert counted(project) == (1, 1, 1)


def test_where_several_people_are_wanted_each_is_another(project, images, anna, ben, say):
    overlap(project, 2)

    say(anna, images[0])

    assert images[0] not in [lease.image for lease in claim(anna, project, 4)]
    assert claim(ben, project)[0].image == images[0]
    assert counted(project) == (0, 1, 1)
    assert say(ben, images[0]).json()["annotation"]["outcome"] == "accepted"
    assert counted(project) == (1, 2, 2)


def test_the_database_gives_nobody_an_image_they_labelled_outside_the_queue(
    project, images, anna, say
):
    overlap(project, 2)
    say(anna, images[0])

    with pytest.raises(IntegrityError):
        Lease.objects.create(
            image=images[0], project=project, user=anna, granted_at=now(), expires_at=now()
        )


def test_an_undo_gives_the_image_to_the_person(project, images, anna, say, client_of):
    label = say(anna, images[2]).json()["annotation"]

    undone = client_of(anna).post(address(project, "undo"), {"annotation": label["id"]}, "json")

    assert undone.status_code == 200
    lease = undone.json()["lease"]
    assert lease["image"]["id"] == images[2].pk
    assert lease["why"]["sentence"] == "You labelled this image outside the queue."
    assert stands(images[2]) == []
    assert counted(project) == (0, 0, 0)


def test_labels_outside_the_queue_complete_a_batch(project, images, anna, say):
    config = settings_of(project)
    config.batch_size = 2
    config.save()
    say(anna, images[0])
    assert not Round.objects.exists()
    say(anna, images[1])

    assert Round.objects.get().trigger == Round.Trigger.BATCH


def test_the_same_key_again_is_the_same_label(project, images, anna, say):
    key = {"Idempotency-Key": "k1"}
    first = say(anna, images[0], headers=key)

    again = say(anna, images[0], headers=key)
    other = say(anna, images[0], "dog", headers=key)

    assert again.json() == first.json()
    assert again["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert Annotation.objects.count() == 1


def test_a_deleted_class_and_a_deleted_image_are_refused(project, images, anna, say):
    dog = class_of(project, "dog")
    body = {"class_ids": [dog.pk]}
    labeling.delete_class(label_class=dog, actor=project.created_by, now=now())
    labeling.delete_image(image=images[1], actor=project.created_by, now=now())

    refused = say(anna, images[0], **body)

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-classes")
    assert say(anna, images[1]).status_code == 404
    assert not Annotation.objects.exists()


def test_an_image_of_another_project_cannot_be_labelled(project, images, anna, say):
    (foreign,) = make_images(make_project(), 1)

    assert say(anna, foreign).status_code == 404
    assert not Annotation.objects.exists()


@pytest.mark.parametrize(
    "body",
    [{}, {"image": 1}, {"class_ids": [1]}, {"image": 1, "external_id": "a", "class_ids": [1]},
     {"image": "x", "class_ids": [1]}, {"image": 1, "class_ids": [2**63]},
     {"image": 1, "class_ids": [1], "seconds": -1}, {"image": 1, "class_ids": [1], "lease": "x"}],
)  # fmt: skip
def test_a_body_that_is_none_is_refused(project, images, anna, client_of, body):
    answer = client_of(anna).post(address(project), body, "json")

    assert answer.status_code == 400
    assert answer.json()["code"] in {"validation-error", "parse-error"}
    assert not Annotation.objects.exists()


# --- The list ---------------------------------------------------------------------------------


@pytest.fixture
def listed(reviewer, project):
    def ask(**query):
        answer = reviewer.get(address(project), query)
        assert answer.status_code == 200, answer.content
        return [entry["id"] for entry in answer.json()["results"]]

    return ask


def test_labels_are_listed_newest_first_and_chosen_by_what_is_known_of_them(
    project, images, anna, ben, say, listed
):
    Image.objects.filter(pk=images[1].pk).update(external_id="b")
    first = say(anna, images[0]).json()["annotation"]["id"]
    second = say(ben, images[1], "dog").json()["annotation"]["id"]
    third = say(anna, images[2], "dog").json()["annotation"]["id"]

    assert listed() == [third, second, first]
    assert listed(**{"class": class_of(project, "dog").pk}) == [third, second]
    assert listed(annotator=anna.pk) == [third, first]
    assert listed(image=images[0].pk) == [first]
    assert listed(external_id="b") == [second]
    since = Annotation.objects.get(pk=second).created_at.isoformat()
    assert listed(since=since) == [third, second]
    assert listed(since=since, annotator=anna.pk) == [third]


def test_what_was_replaced_is_listed_only_when_asked_for(project, images, anna, say, listed):
    former = say(anna, images[0]).json()["annotation"]["id"]
    present = say(anna, images[0], "dog").json()["annotation"]["id"]

    assert listed() == [present]
    assert listed(current="false") == [present, former]
    assert listed(current="false", **{"class": class_of(project).pk}) == [former]


def test_labels_of_other_projects_and_of_deleted_images_are_not_listed(
    project, images, anna, say, listed
):
    other = make_project()
    make_label(make_images(other, 1)[0], anna, class_of(other))
    say(anna, images[0])
    labeling.delete_image(image=images[0], actor=project.created_by, now=now())

    assert listed() == []


def test_pages_of_labels_follow_each_other(project, images, anna, say, reviewer):
    made = [say(anna, image).json()["annotation"]["id"] for image in images]

    found, url = [], f"{address(project)}?limit=3"
    while url:
        page = reviewer.get(url).json()
        found += [entry["id"] for entry in page["results"]]
        url = page["next"]

    assert found == made[::-1]


def test_the_list_is_for_reviewers(project, images, anna, client_of):
    assert client_of(anna).get(address(project)).status_code == 403


@pytest.mark.parametrize(
    "query", [{"since": "x"}, {"class": "x"}, {"current": "yes"}, {"author": 1}, {"image": 2**63}]
)
def test_a_filter_of_labels_that_is_none_is_refused(project, reviewer, query):
    assert reviewer.get(address(project), query).status_code == 400


def test_a_page_of_labels_reads_no_more_the_more_there_are(project, anna, reviewer):
    """Newest first from the labels' own order: nothing is sorted."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL plans by how many rows there are")
    query, params = selectors.annotations_of(project, {"current": "true"})[
        :51
    ].query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query}", params)
        plan = [row[3] for row in cursor.fetchall()]

    assert not any("TEMP B-TREE" in step for step in plan), plan
