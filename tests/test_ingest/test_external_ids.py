"""What other systems call images: given at the upload, one of each in a project, names images."""

import io
import threading

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.urls import reverse
from factories import class_of, make_label, make_member, make_project, make_user, now
from PIL import Image as Picture

from annotator.accounts.models import Role
from annotator.ingest import fetching, services
from annotator.ingest.models import Import
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling import services as labeling
from annotator.labeling.models import Image

pytestmark = pytest.mark.django_db(transaction=True)


def picture(colour="red"):
    buffer = io.BytesIO()
    Picture.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def lead():
    return make_user()


@pytest.fixture
def project(lead):
    return make_project(lead=lead)


@pytest.fixture
def client(client_of, lead):
    return client_of(lead)


@pytest.fixture
def where(project):
    return reverse("api:images", args=[project.pk])


def send(client, where, colours, external_ids=()):
    files = [SimpleUploadedFile(f"{colour}.png", picture(colour)) for colour in colours]
    body = {"file": files, "external_id": list(external_ids)}
    return client.post(where, body, format="multipart")


def add(project, colour, external_id):
    return services.add_image(
        project=project,
        file=[picture(colour)],
        file_name=f"{colour}.png",
        user=project.created_by,
        external_id=external_id,
    )


def ids_of(project):
    images = Image.objects.filter(project=project, deleted_at=None)
    return dict(images.values_list("file_name", "external_id"))


def test_the_files_of_an_upload_have_the_external_ids_sent_in_their_order(client, project, where):
    answer = send(client, where, ["red", "blue", "green"], ["cam/1#a", "", "ü 3"])

    assert answer.status_code == 200
    assert ids_of(project) == {"red.png": "cam/1#a", "blue.png": "", "green.png": "ü 3"}
    (found,) = client.get(where, {"external_id": "cam/1#a"}).json()["results"]
    assert (found["file_name"], found["external_id"]) == ("red.png", "cam/1#a")
    assert client.get(where, {"external_id": "cam/1"}).json()["results"] == []
    (unnamed,) = client.get(where, {"q": "blue"}).json()["results"]
    assert unnamed["external_id"] is None


def test_a_label_says_what_the_sender_calls_its_image(client, project, lead, where):
    send(client, where, ["red"], ["a"])
    make_label(Image.objects.get(), lead, class_of(project))

    (found,) = client.get(where).json()["results"]

    assert found["annotation"]["external_id"] == "a"
    assert found["annotation"]["author_id"] == lead.pk


@pytest.mark.parametrize(
    "sent", [["a"], ["a", "b", "c"], ["a", "x" * 201], ["a", "b\nc"], ["a", "b "]]
)
def test_external_ids_that_are_none_or_not_one_for_each_file_store_nothing(
    client, project, where, sent
):
    answer = send(client, where, ["red", "blue"], sent)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"].startswith("/external_id")
    assert not Image.objects.exists()


def test_an_external_id_stands_for_one_picture(project):
    first = add(project, "red", "a")

    other = add(project, "blue", "a")

    assert (first.result, other.result, other.code) == ("added", "refused", "external-id-taken")
    assert "“red.png”" in other.reason
    project.refresh_from_db()
    assert project.n_images == Image.objects.count() == 1


def test_another_project_may_use_the_same_external_ids(project):
    assert add(project, "red", "a").result == "added"
    assert add(make_project(), "red", "a").result == "added"


def test_a_picture_that_is_here_without_one_takes_the_external_id_and_with_another_one_says_so(
    project,
):
    add(project, "red", "")

    taken = add(project, "red", "a")
    again = add(project, "red", "a")
    other = add(project, "red", "b")
    silent = add(project, "red", "")

    assert [taken.result, again.result, silent.result] == ["duplicate"] * 3
    assert taken.image.external_id == "a"
    assert (other.result, other.code) == ("refused", "external-id-differs")
    assert ids_of(project) == {"red.png": "a"}


def test_a_picture_that_is_here_cannot_take_the_external_id_of_another(project):
    add(project, "red", "a")
    add(project, "blue", "")

    answer = add(project, "blue", "a")

    assert (answer.result, answer.code) == ("refused", "external-id-taken")
    assert ids_of(project) == {"red.png": "a", "blue.png": ""}


def test_of_pictures_sent_at_the_same_time_with_one_external_id_one_is_added(project):
    answers = []

    def send_one(colour):
        answers.append(add(project, colour, "a"))
        connection.close()

    threads = [threading.Thread(target=send_one, args=[c]) for c in ("red", "blue", "green")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer.result for answer in answers) == ["added", "refused", "refused"]
    assert {answer.code for answer in answers} == {"", "external-id-taken"}
    project.refresh_from_db()
    assert project.n_images == Image.objects.count() == 1


def test_the_external_id_of_a_deleted_picture_is_free_and_the_picture_stays_away_while_it_is_used(
    client, project, lead
):
    gone = add(project, "red", "a").image
    labeling.delete_image(image=gone, actor=lead, now=now())
    assert add(project, "blue", "a").result == "added"

    answer = client.post(reverse("api:image_restore", args=[project.pk, gone.pk]))

    assert (answer.status_code, answer.json()["code"]) == (409, "image-exists")
    assert "external id “a”" in answer.json()["detail"]


def test_an_address_may_come_with_an_external_id(client, project, where, monkeypatch):
    def download(url, target, *, limits):
        target.write(picture(url.rpartition("/")[2]))

    monkeypatch.setattr(fetching.outbound, "download", download)
    urls = ["https://x.org/red", {"url": "https://x.org/blue", "external_id": "b"}]

    answer = client.post(where, {"urls": urls}, format="json")

    assert answer.status_code == 202
    assert jobs.run(Job.objects.get(kind="fetch").pk) == "done"
    assert ids_of(project) == {"red": "", "blue": "b"}


@pytest.mark.parametrize(
    "entry",
    [{"url": "https://x.org/a", "external_id": 5}, {"url": "https://x.org/a", "id": "b"},
     {"external_id": "b"}, {"url": "https://x.org/a", "external_id": "x" * 201}],
)  # fmt: skip
def test_an_address_with_an_external_id_that_is_none_is_refused(client, where, entry):
    answer = client.post(where, {"urls": ["https://x.org/b", entry]}, format="json")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"].startswith("/urls/1/")
    assert not Import.objects.exists()
    assert not Job.objects.exists()


def test_annotators_find_images_by_external_id_too(project, client_of, where):
    add(project, "red", "a")

    found = client_of(make_member(project, Role.ANNOTATOR)).get(where, {"external_id": "a"})

    assert [entry["external_id"] for entry in found.json()["results"]] == ["a"]
