"""Submitting many labels in one request: each as if it had come alone."""

import uuid

import pytest
from django.urls import reverse
from factories import class_of, make_images, make_member, make_project, make_ranking, now

from annotator.accounts import services as accounts
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation
from workqueue import services
from workqueue.models import Submission

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project():
    project = make_project()
    make_ranking(project, make_images(project, 5))
    return project


@pytest.fixture
def person(project):
    return make_member(project)


@pytest.fixture
def leases(project, person):
    return services.claim(user=person, project=project, n=5, client="t", now=now()).leases


@pytest.fixture
def send(client_of, person, project):
    def post(labels, user=person):
        where = reverse("api:submit", args=[project.pk])
        return client_of(user).post(where, {"labels": labels}, "json")

    return post


def label(lease, name="cat", /, **more):
    class_ids = [class_of(lease.project, name).pk]
    own = {"lease": str(lease.token), "class_ids": class_ids, "key": uuid.uuid4().hex}
    return own | more


def statuses(answer):
    assert answer.status_code == 200, answer.content
    return [entry["status"] for entry in answer.json()["results"]]


def test_many_labels_are_kept_with_an_answer_each(project, leases, send):
    labels = [label(leases[0], seconds=2), label(leases[1], "dog"), label(leases[2])]

    answer = send(labels)

    assert statuses(answer) == [201, 201, 201]
    results = answer.json()["results"]
    assert [entry["key"] for entry in results] == [entry["key"] for entry in labels]
    assert [entry["image_id"] for entry in results] == [lease.image_id for lease in leases[:3]]
    assert [entry["annotation"]["outcome"] for entry in results] == ["accepted"] * 3
    assert results[1]["annotation"]["class_ids"] == [class_of(project, "dog").pk]
    assert answer.json()["status"]["n_labelled"] == 3
    assert Annotation.objects.filter(is_current=True).count() == 3


def test_a_bad_label_stops_no_other(project, leases, send):
    gone = class_of(project, "bird")
    orphan = label(leases[4], "bird")
    labeling.delete_class(label_class=gone, actor=project.created_by, now=now())
    bad = [
        label(leases[0], lease=str(uuid.uuid4())),
        label(leases[0], class_ids=[2**62]),
        label(leases[0], class_ids=[0]),
        label(leases[0], note="x"),
        {"lease": str(leases[0].token), "class_ids": [1]},
        "no label",
        None,
    ]

    answer = send([*bad, label(leases[0]), orphan])

    assert statuses(answer) == [404, 422, 400, 400, 400, 400, 400, 201, 201]
    results = answer.json()["results"]
    assert [entry["code"] for entry in results[:3]] == [
        "lease-unknown", "invalid-classes", "validation-error",
    ]  # fmt: skip
    assert results[3]["errors"][0]["pointer"] == "/note"
    assert results[4]["errors"][0]["pointer"] == "/key"
    assert all(entry["detail"] for entry in results[:7])
    assert results[8]["annotation"]["outcome"] == "orphaned"
    assert Submission.objects.count() == 2


def test_the_same_labels_again_get_the_same_answers(leases, send):
    labels = [label(lease) for lease in leases]
    first = send(labels).json()["results"]

    again = send(labels)

    assert statuses(again) == [200] * 5
    assert [entry["annotation"] for entry in again.json()["results"]] == [
        entry["annotation"] for entry in first
    ]
    assert Annotation.objects.count() == 5


def test_one_key_for_two_labels_keeps_the_first(leases, send):
    first = label(leases[0])

    answer = send([first, label(leases[1], key=first["key"])])

    assert statuses(answer) == [201, 422]
    assert answer.json()["results"][1]["code"] == "idempotency-key-reused"
    assert Annotation.objects.get().image_id == leases[0].image_id


def test_what_is_kept_before_a_failure_stays(leases, send, monkeypatch):
    """Each label has a transaction of its own: the second dies, and the first is on the disk."""
    record, calls = labeling.record_annotation, []

    def die(**more):
        calls.append(more)
        if len(calls) == 2:
            raise RuntimeError("the process ends here")
        return record(**more)

    monkeypatch.setattr(labeling, "record_annotation", die)

    with pytest.raises(RuntimeError):
        send([label(leases[0]), label(leases[1])])

    assert Annotation.objects.get().image_id == leases[0].image_id


@pytest.mark.parametrize("n", [0, 101])
def test_a_request_has_one_to_a_hundred_labels(leases, send, n):
    answer = send([label(leases[0]) for _ in range(n)])

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/labels"
    assert not Annotation.objects.exists()


def test_labels_in_flight_of_somebody_removed_are_kept_and_do_not_count(
    project, person, leases, send
):
    accounts.remove_member(project_id=project.pk, user=person, actor=project.created_by)

    answer = send([label(leases[0]), label(leases[1], lease=str(uuid.uuid4()))])

    assert statuses(answer) == [201, 404]
    assert answer.json()["results"][0]["annotation"]["outcome"] == "after_removal"
    assert answer.json()["status"] is None


def test_a_stranger_reaches_nothing(project, leases, send):
    stranger = make_member(make_project())

    assert send([label(leases[0])], user=stranger).status_code == 404
    assert not Annotation.objects.exists()
