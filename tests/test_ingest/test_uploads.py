import base64
import csv
import fcntl
import hashlib
import io
import threading
import zipfile

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.urls import reverse
from factories import class_of, make_label, make_member, make_project, make_user, now
from PIL import Image as Picture

from annotator.accounts.models import Role
from annotator.ingest import services, zips
from annotator.ingest.models import Import, ImportEntry, Upload
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling.models import Image

pytestmark = pytest.mark.django_db(transaction=True)


def picture(colour="red", size=(64, 48), kind="PNG"):
    buffer = io.BytesIO()
    Picture.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def lead_client(client_of):
    lead = make_user()
    project = make_project(lead=lead)
    return project, client_of(lead)


def send(client, project, *files):
    uploads = [SimpleUploadedFile(name, content) for name, content in files]
    return client.post(
        reverse("api:images", args=[project.pk]), {"file": uploads}, format="multipart"
    )


def test_each_file_of_an_upload_gets_an_answer_of_its_own(lead_client):
    project, client = lead_client

    answer = send(
        client,
        project,
        ("good.png", picture()),
        ("again.png", picture()),
        ("bad.jpg", b"<html>"),
        ("empty.png", b""),
    )

    answer = answer.json()
    image = Image.objects.get()
    assert sorted(answer) == ["created", "duplicates", "rejected"]
    assert [(entry["index"], entry["id"]) for entry in answer["created"]] == [(0, image.pk)]
    (duplicate,) = answer["duplicates"]
    assert (duplicate["index"], duplicate["id"]) == (1, image.pk)
    assert duplicate["detail"] == "The same picture is here as “good.png”."
    assert [(entry["index"], entry["name"], entry["code"]) for entry in answer["rejected"]] == [
        (2, "bad.jpg", "not-an-image"),
        (3, "empty.png", "empty-file"),
    ]
    assert all(entry["detail"] for entry in answer["rejected"])
    project.refresh_from_db()
    assert project.n_images == 1
    assert image.sha256 == hashlib.sha256(picture()).hexdigest()
    assert image.random_key == Image.random_key_of(image.key)
    for name in (image.original_name, image.display_name, image.thumbnail_name):
        assert default_storage.exists(name)
    assert Job.objects.get().kind == "embed"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/x.png", "x.png"),
        ("C:\\photos\\x.png", "x.png"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("a\nb\x00.png", "ab.png"),
        ("...", "unnamed"),
        ("ü" * 5000 + ".png", "ü" * 251 + ".png"),
    ],
)
def test_file_names_are_kept_as_harmless_text(name, kept):
    assert services.clean_file_name(name) == kept


def test_the_same_bytes_sent_at_the_same_time_are_one_image():
    project = make_project()
    user = make_member(project, Role.LEAD)
    results = []

    def add():
        results.append(
            services.add_image(
                project=project, file=[picture("blue")], file_name="a.png", user=user
            ).result
        )
        connection.close()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == ["added", "duplicate", "duplicate", "duplicate"]
    project.refresh_from_db()
    assert project.n_images == 1


def test_a_full_disk_is_a_507_and_leaves_nothing_behind(lead_client, monkeypatch):
    project, client = lead_client
    saved = []
    save = default_storage.save

    def full(name, content):
        if saved:
            raise OSError(28, "No space left on device")
        saved.append(save(name, content))
        return saved[0]

    monkeypatch.setattr(default_storage, "save", full)

    answer = send(client, project, ("a.png", picture("green")))

    assert answer.status_code == 507
    assert answer.json()["code"] == "storage-full"
    assert not Image.objects.exists()
    assert not default_storage.exists(saved[0])
    project.refresh_from_db()
    assert project.n_images == 0


def test_the_uploader_learns_what_is_here_already(lead_client):
    project, client = lead_client
    send(client, project, ("a.png", picture()))
    here, other = hashlib.sha256(picture()).hexdigest(), "0" * 64

    answer = client.post(
        reverse("api:known", args=[project.pk]), {"sha256": [here, other]}, format="json"
    )

    assert answer.json() == {"known": [here]}


def test_image_files_are_served_to_members_only_and_never_as_pages(lead_client, client_of, client):
    project, lead = lead_client
    (image,) = send(lead, project, ("a.png", picture())).json()["created"]

    shown = lead.get(image["display_url"])
    original = lead.get(image["original_url"])

    assert shown["Content-Type"] == "image/jpeg"
    assert shown["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in shown["Content-Security-Policy"]
    assert b"".join(original.streaming_content) == picture()
    assert original["Content-Disposition"].startswith("attachment")
    assert client_of(make_user()).get(image["display_url"]).status_code == 404
    assert client.get(image["display_url"]).status_code == 404


def test_a_deleted_image_is_gone_from_the_list_and_may_come_again(lead_client):
    project, client = lead_client
    (image,) = send(client, project, ("a.png", picture())).json()["created"]

    gone = client.delete(reverse("api:image", args=[project.pk, image["id"]]))

    assert gone.status_code == 204
    assert client.get(reverse("api:images", args=[project.pk])).json()["results"] == []
    assert len(send(client, project, ("a.png", picture())).json()["created"]) == 1
    project.refresh_from_db()
    assert project.n_images == 1


def test_images_are_found_by_status_class_and_name(lead_client):
    project, client = lead_client
    for name, colour in (("cat.png", "red"), ("dog.png", "blue")):
        send(client, project, (name, picture(colour)))
    cat = Image.objects.get(file_name="cat.png")
    make_label(cat, project.created_by, class_of(project))
    where = reverse("api:images", args=[project.pk])

    def found(**query):
        return [entry["file_name"] for entry in client.get(where, query).json()["results"]]

    assert found() == ["dog.png", "cat.png"]
    assert found(status="open") == ["dog.png"]
    assert found(**{"class": class_of(project).pk}) == ["cat.png"]
    assert found(q="DOG") == ["dog.png"]
    for bad in ({"status": "x"}, {"class": "x"}, {"order": "x"}, {"sha256__startswith": "a"}):
        assert client.get(where, bad).status_code == 400, bad


# --- Uploads in pieces ------------------------------------------------------------------------


def zipped(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def begin(client, project, length, name="photos.zip"):
    return client.post(
        reverse("api:uploads", args=[project.pk]),
        headers={
            "Upload-Length": str(length),
            "Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()}",
        },
    )


def patch(client, location, content, offset):
    return client.generic(
        "PATCH",
        location,
        content,
        content_type="application/offset+octet-stream",
        headers={"Upload-Offset": str(offset)},
    )


def do_import():
    return jobs.run(Job.objects.get(kind="import").pk)


def upload_zip(client, project, content):
    location = begin(client, project, len(content))["Location"]
    return patch(client, location, content, 0)


def test_an_upload_goes_on_where_it_was_cut_and_then_is_unpacked(lead_client):
    project, client = lead_client
    content = zipped([(f"{i}.png", picture((i * 20, 0, 0))) for i in range(6)])
    location = begin(client, project, len(content))["Location"]

    first = patch(client, location, content[:100], 0)
    wrong = patch(client, location, content[50:], 50)
    where = client.head(location)
    last = patch(client, location, content[100:], 100)
    assert do_import() == "done"

    assert first["Upload-Offset"] == "100"
    assert wrong.status_code == 409
    assert wrong.json()["offset"] == 100
    assert where["Upload-Offset"] == "100"
    state = client.get(reverse("api:import", args=[project.pk, last["X-Import-Id"]])).json()
    assert (state["state"], state["n_added"]) == ("done", 6)
    assert not services.upload_path(Upload.objects.get()).exists()


def test_hostile_entries_of_a_zip_are_refused_one_by_one_and_the_rest_goes_in(lead_client):
    project, client = lead_client
    bomb = b"\0" * (300 * 1024**2)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ok/good.png", picture())
        archive.writestr("../../etc/evil.png", picture("blue"))
        archive.writestr("/abs.png", picture("green"))
        archive.writestr("C:\\x.png", picture("black"))
        archive.writestr("bomb.png", bomb)
        archive.writestr("inner.zip", b"PK")
        archive.writestr("text.txt", b"hello")
        archive.writestr("__MACOSX/._good.png", b"x")
        archive.writestr(".DS_Store", b"x")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")

    upload_zip(client, project, buffer.getvalue())
    do_import()

    codes = dict(ImportEntry.objects.values_list("file_name", "code"))
    assert codes == {
        "ok/good.png": "",
        "../../etc/evil.png": "unsafe-path",
        "/abs.png": "unsafe-path",
        "C:\\x.png": "unsafe-path",
        "bomb.png": "zip-bomb",
        "inner.zip": "nested-archive",
        "text.txt": "not-an-image",
        "link.png": "not-a-file",
    }
    assert Image.objects.get().file_name == "good.png"


def test_every_file_of_a_zip_is_in_its_table_with_folder_and_reason(lead_client, client_of):
    project, client = lead_client
    broken = [(f"photos/day {i}/{i}.jpg", b"<html>") for i in range(300)]
    content = zipped([("a/good.png", picture()), ("=cmd.jpg", b""), *broken])
    import_id = upload_zip(client, project, content)["X-Import-Id"]
    do_import()
    where = reverse("api:import_entries", args=[project.pk, import_id])

    answer = client.get(where)

    table = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    state = client.get(reverse("api:import", args=[project.pk, import_id])).json()
    assert len(table) == 302
    assert sum(row["result"] == "refused" for row in table) == state["n_refused"] == 301
    assert table[0] == {
        "archive": "photos.zip", "file": "a/good.png", "result": "added", "reason": "",
    }  # fmt: skip
    assert table[1]["file"] == "'=cmd.jpg"
    assert table[-1]["file"] == "photos/day 299/299.jpg"
    assert table[-1]["reason"].startswith("This is not a picture")
    assert client_of(make_user()).get(where).status_code == 404


def test_an_import_whose_worker_was_killed_goes_on_and_the_set_is_the_same(
    lead_client, monkeypatch
):
    project, client = lead_client
    entries = [(f"{i}.png", picture((i * 6, 0, 0))) for i in range(40)]
    upload_zip(client, project, zipped(entries))
    job = Job.objects.get(kind="import")
    count = services._count_entries

    class Killed(BaseException):
        pass

    def die_in_the_second_group(import_run):
        count(import_run)
        if import_run.entries.count() > services.ENTRIES_AT_ONCE:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(services, "_count_entries", die_in_the_second_group)
        with pytest.raises(Killed):
            jobs.run(job.pk)
    jobs.sweep(now=now() + settings.JOB_LEASE * 2)
    jobs.run(job.pk)

    finished = Import.objects.get()
    # The killed group's pictures were stored before their entries: they are found again.
    assert finished.n_added + finished.n_duplicates == 40
    assert Image.objects.count() == 40
    project.refresh_from_db()
    assert project.n_images == 40


def test_what_is_no_zip_fails_with_a_sentence(lead_client):
    project, client = lead_client
    answer = upload_zip(client, project, b"Rar!" + b"x" * 100)
    do_import()

    where = reverse("api:import", args=[project.pk, answer["X-Import-Id"]])
    state = client.get(where).json()
    assert state["state"] == "failed"
    assert "not a readable zip" in state["error"]


def test_an_upload_that_is_too_large_or_finds_no_room_is_refused_at_once(lead_client, monkeypatch):
    project, client = lead_client

    assert begin(client, project, settings.MAX_ZIP_BYTES + 1).status_code == 413
    assert begin(client, project, 0).status_code == 422
    assert begin(client, project, "x").status_code == 400

    class Disk:
        free = 1000

    monkeypatch.setattr(services.shutil, "disk_usage", lambda _: Disk)
    assert begin(client, project, 5000).status_code == 507


def test_an_import_can_be_cancelled(lead_client):
    project, client = lead_client
    answer = upload_zip(client, project, zipped([("a.png", picture())]))

    cancelled = client.post(reverse("api:import_cancel", args=[project.pk, answer["X-Import-Id"]]))

    assert cancelled.json()["state"] == "cancelled"
    assert do_import() == "not mine"


def test_a_zip_whose_directory_is_absurdly_large_is_refused_before_it_is_read(
    lead_client, monkeypatch
):
    project, client = lead_client
    content = zipped([(f"{i}.png", b"x") for i in range(5)])
    monkeypatch.setattr(zips, "MAX_DIRECTORY_BYTES", 200)
    monkeypatch.setattr(zips.zipfile, "ZipFile", None)

    answer = upload_zip(client, project, content)
    do_import()

    where = reverse("api:import", args=[project.pk, answer["X-Import-Id"]])
    assert "Its directory is larger" in client.get(where).json()["error"]


def test_an_upload_that_is_being_imported_cannot_be_given_up(lead_client):
    project, client = lead_client
    content = zipped([("a.png", picture())])
    location = begin(client, project, len(content))["Location"]
    patch(client, location, content, 0)

    refused = client.delete(location)

    assert (refused.status_code, refused.json()["code"]) == (409, "upload-finished")
    assert do_import() == "done"
    assert project.images.count() == 1


def test_two_requests_never_write_to_one_upload_at_once(lead_client):
    project, client = lead_client
    location = begin(client, project, 1000)["Location"]
    patch(client, location, b"x" * 10, 0)
    upload = Upload.objects.get()

    with services.upload_path(upload).open("ab") as broken_off:
        fcntl.flock(broken_off, fcntl.LOCK_EX)
        meanwhile = patch(client, location, b"y" * 10, 10)
    afterwards = patch(client, location, b"y" * 10, 10)

    assert (meanwhile.status_code, meanwhile.json()["offset"]) == (409, 10)
    assert afterwards["Upload-Offset"] == "20"


def test_an_upload_somebody_goes_on_with_is_not_swept(lead_client):
    project, client = lead_client
    location = begin(client, project, 1000)["Location"]
    Upload.objects.update(touched_at=now() - settings.JOB_LEASE)

    patch(client, location, b"x" * 10, 0)
    services.sweep_uploads(before=now() - settings.JOB_LEASE / 2)

    assert Upload.objects.get().offset == 10


def test_a_misspelt_field_beside_the_files_is_refused_and_nothing_added(lead_client):
    project, client = lead_client
    file = SimpleUploadedFile("a.png", picture())
    body = {"file": file, "external_ids": "cam1/1"}

    refused = client.post(reverse("api:images", args=[project.pk]), body, format="multipart")

    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/external_ids"]
    assert project.images.count() == 0


def test_uploads_nobody_goes_on_with_are_swept(lead_client):
    project, client = lead_client
    begin(client, project, 1000)
    path = services.upload_path(Upload.objects.get())
    assert path.exists()

    services.sweep_uploads(before=now() + settings.JOB_LEASE)

    assert not path.exists()
    assert not Upload.objects.exists()
