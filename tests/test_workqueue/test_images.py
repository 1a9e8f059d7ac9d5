"""Images over the API: found by what is known of them, shown one by one, opened by address."""

import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.core import signing
from django.test import Client
from django.urls import reverse
from factories import (
    class_of,
    make_images,
    make_label,
    make_member,
    make_project,
    make_ranking,
    make_user,
    now,
    store_files,
)

from annotator.accounts.models import Role
from annotator.labeling import files
from annotator.labeling import services as labeling
from annotator.labeling.models import Image
from workqueue.models import RankedImage

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project()


@pytest.fixture
def images(project):
    return make_images(project, 5)


@pytest.fixture
def reviewer(project):
    return make_member(project, Role.REVIEWER)


@pytest.fixture
def client(client_of, reviewer):
    return client_of(reviewer)


@pytest.fixture
def found(client, project):
    def ask(**query):
        answer = client.get(reverse("api:images", args=[project.pk]), query)
        assert answer.status_code == 200, answer.content
        return [entry["id"] for entry in answer.json()["results"]]

    return ask


def pks(*images):
    return [image.pk for image in images]


def label(image, author, name="cat"):
    classes = [class_of(image.project, name)]
    return make_label(image, author, *classes)


def one(client, image):
    return client.get(reverse("api:image", args=[image.project_id, image.pk]))


# --- Found ------------------------------------------------------------------------------------


def test_images_are_found_by_who_labelled_them(project, images, reviewer, found):
    other = make_member(project)
    label(images[0], reviewer)
    label(images[1], other)
    withdrawn = label(images[2], reviewer)
    labeling.withdraw_annotation(annotation=withdrawn, actor=reviewer)

    assert found(annotator=reviewer.pk) == pks(images[0])
    assert found(annotator=other.pk) == pks(images[1])
    assert found(annotator=make_user().pk) == []


def test_images_are_found_by_their_score_in_the_current_ranking_only(project, images, found):
    make_ranking(project, images)
    make_ranking(project, images[:4])  # scores 0.99, 0.98, 0.97, 0.96
    RankedImage.objects.filter(ranking__number=2, image=images[1]).update(explored=True)

    assert found(score_min=0.965) == pks(images[2], images[0])
    assert found(score_max=0.97) == pks(images[3], images[2])
    assert found(score_min=0.965, score_max=0.975) == pks(images[2])
    assert found(score_min=0) == pks(images[3], images[2], images[0])


def test_before_there_is_a_ranking_no_image_has_a_score(images, found):
    assert found(score_min=0) == []


def test_scores_are_for_reviewers_as_the_ranking_is(project, client_of):
    annotator = client_of(make_member(project))

    answer = annotator.get(reverse("api:images", args=[project.pk]), {"score_max": 1})

    assert answer.status_code == 403


def test_images_are_found_by_when_they_were_uploaded(images, found):
    noon = now()
    for image, hours in zip(images, range(5), strict=True):
        Image.objects.filter(pk=image.pk).update(created_at=noon + timedelta(hours=hours))

    assert found(uploaded_after=(noon + timedelta(hours=3)).isoformat()) == pks(images[4])
    assert found(uploaded_after=(noon + timedelta(hours=2.5)).isoformat()) == pks(
        images[4], images[3]
    )


@pytest.mark.parametrize(
    "query",
    [{"annotator": "x"}, {"annotator": 2**63}, {"score_min": -0.1}, {"score_max": "nan"},
     {"score_min": 1.1}, {"uploaded_after": "yesterday"}],
)  # fmt: skip
def test_a_filter_that_is_none_is_refused(client, project, query):
    answer = client.get(reverse("api:images", args=[project.pk]), query)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(query))}"


# --- One image --------------------------------------------------------------------------------


def test_an_image_is_shown_with_its_labels_and_its_place(project, images, reviewer, client):
    project.annotators_per_image = 2
    project.save()
    make_ranking(project, images)
    ranking = make_ranking(project, images[::-1])
    label(images[3], make_member(project, name="anna"), "dog")
    label(images[3], reviewer)

    shown = one(client, images[3]).json()

    assert shown["id"] == images[3].pk
    assert [entry["class_ids"] for entry in shown["annotations"]] == [
        [class_of(project, "dog").pk],
        [class_of(project).pk],
    ]
    assert shown["annotations"][0]["author"] == "anna"
    place = shown["place"]
    assert (place["ranking"], place["position"], place["score"]) == (ranking.number, 2, 0.98)
    assert "image" not in place


def test_an_image_out_of_the_ranking_has_no_place(project, images, client):
    make_ranking(project, images[:2])

    assert one(client, images[2]).json()["place"] is None


def test_an_annotator_sees_the_image_and_not_its_place(project, images, client_of):
    make_ranking(project, images)

    answer = one(client_of(make_member(project)), images[0])

    assert answer.status_code == 200
    assert answer.json()["place"] is None


def test_a_deleted_image_and_one_of_another_project_are_not_shown(project, images, client):
    labeling.delete_image(image=images[0], actor=make_user(), now=now())
    (foreign,) = make_images(make_project(), 1)

    assert one(client, images[0]).status_code == 404
    assert one(client, foreign).status_code == 404
    mixed = reverse("api:image", args=[project.pk, foreign.pk])
    assert client.get(mixed).status_code == 404


# --- Signed addresses -------------------------------------------------------------------------


@pytest.fixture
def signed(images, client):
    store_files(images)
    return one(client, images[0]).json()["urls"]


def test_signed_addresses_open_the_files_without_signing_in(images, signed):
    for what in ("original", "display", "thumbnail"):
        assert signed[what].startswith("http://testserver/images/")
        answer = Client().get(signed[what])
        assert answer.status_code == 200
        assert b"".join(answer.streaming_content) == f"bytes of {images[0].pk}".encode()
        assert answer["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert "sandbox" in answer["Content-Security-Policy"]


def test_a_signed_address_says_that_its_time_is_over(signed, monkeypatch):
    later = time.time() + files.SIGNED_FOR_S
    monkeypatch.setattr(signing.time, "time", lambda: later - 1)
    assert Client().get(signed["display"]).status_code == 200
    monkeypatch.setattr(signing.time, "time", lambda: later + 2)

    answer = Client().get(signed["display"])

    assert answer.status_code == 403
    assert "has expired" in answer.content.decode()


def test_a_signature_opens_its_own_file_and_no_other(images, signed):
    def status(address):
        return Client().get(address).status_code

    other = str(images[1].key)
    assert status(signed["thumbnail"].replace("thumbnail.jpg", "original")) == 403
    assert status(signed["display"].replace(str(images[0].key), other)) == 403
    assert status(signed["display"][:-1] + ("A" if signed["display"][-1] != "A" else "B")) == 403
    assert status(signed["display"].partition("?")[0]) == 404
    assert status(f"/images/{other}/original?signature=") == 403
    forged = signing.TimestampSigner(key="another secret" * 5, salt="file of an image")
    text = forged.sign(f"{other}/original").removeprefix(f"{other}/original:")
    assert settings.SECRET_KEY != "another secret" * 5
    assert status(f"/images/{other}/original?signature={text}") == 403


def test_a_bad_signature_is_refused_even_where_the_person_could_see_the_image(
    images, signed, client
):
    assert client.get(f"/images/{images[0].key}/display.jpg").status_code == 200
    assert client.get(f"/images/{images[0].key}/display.jpg?signature=x").status_code == 403


def test_what_is_deleted_or_archived_meanwhile_is_not_opened(project, images, signed, client):
    second = one(client, images[1]).json()["urls"]
    labeling.delete_image(image=images[0], actor=make_user(), now=now())
    assert Client().get(signed["display"]).status_code == 404
    assert Client().get(second["display"]).status_code == 200
    labeling.delete_project(project=project, actor=make_user(), now=now())

    assert Client().get(second["display"]).status_code == 404


def test_an_address_with_hyphens_in_the_place_of_a_key_is_no_image(client):
    answer = client.get(f"/images/{'-' * 36}/display.jpg")

    assert answer.status_code == 404
