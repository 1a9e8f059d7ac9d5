"""The life of an export: asked for, written, downloaded, stopped, deleted, swept."""

import errno
import os
from datetime import timedelta

import pytest
from crash_kit import KILLED, Crasher
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection
from django.urls import reverse
from exports_kit import do, say, start, store_pictures
from factories import HOUR, class_of, make_images, make_member, make_project, now

from annotator.accounts.models import Role
from annotator.events.models import Event
from annotator.exports import services, writing
from annotator.exports.formats import FORMATS
from annotator.exports.models import Export
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling.models import Project
from annotator.labeling.services import delete_project
from workqueue import housekeeping

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@pytest.fixture
def reviewer(project):
    return make_member(project, Role.REVIEWER)


@pytest.fixture
def client(client_of, reviewer):
    return client_of(reviewer)


@pytest.fixture
def images(project):
    images = make_images(project, 3)
    store_pictures(images)
    author = make_member(project)
    for image in images:
        say(image, author, "cat")
    return images


@pytest.fixture
def ask(client, project):
    """Start an export through the API."""

    def post(**body):
        return client.post(where("exports", project.pk), {"format": "csv", **body}, format="json")

    return post


def where(name, *ids):
    return reverse(f"api:{name}", args=ids)


def kinds():
    return list(Event.objects.filter(kind__startswith="export.").values_list("kind", flat=True))


def files(root):
    return sorted(path.name for path in root.iterdir()) if root.is_dir() else []


# --- Asked for, written, downloaded -------------------------------------------------------------


@pytest.mark.usefixtures("images")
def test_a_reviewer_asks_for_an_export_waits_and_downloads_it(client, project, ask, reviewer):
    asked = ask(format="csv", filters={"images": "all"})
    assert (asked.status_code, asked.json()["state"]) == (202, "queued")
    export_id = asked.json()["id"]
    address = where("export", project.pk, export_id)
    assert client.get(asked.json()["download_url"] or address).json()["download_url"] is None

    assert jobs.run(Export.objects.get().job_id) == "done"

    shown = client.get(address).json()
    assert (shown["state"], shown["error"]) == ("done", "")
    assert (shown["n_images"], shown["n_labels"]) == (3, 3)
    assert shown["n_of_class"] == {str(class_of(project).pk): 3}
    assert shown["created_by"] == reviewer.shown_name
    assert shown["progress"]["done"] == shown["progress"]["total"]
    (listed,) = client.get(where("exports", project.pk)).json()["results"]
    assert listed == shown
    answer = client.get(shown["download_url"])
    content = b"".join(answer.streaming_content)
    assert len(content) == shown["n_bytes"] == int(answer["Content-Length"])
    assert answer["ETag"] == f'"{shown["sha256"]}"'
    name = f"Animals-{export_id}-csv.csv"
    assert answer["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    assert kinds() == ["export.requested", "export.done"]


@pytest.mark.usefixtures("images")
def test_the_filters_of_a_request_reach_the_export(ask, project):
    body = {
        "format": "jsonl",
        "filters": {"images": "labelled", "class_ids": [class_of(project, "dog").pk]},
        "history": True,
        "names": True,
        "pictures": "renditions",
    }

    asked = ask(**body).json()

    assert {name: asked[name] for name in body} == body | {
        "filters": {**body["filters"], "chosen": None}
    }
    _, export = do(Export.objects.get())
    assert export.contents["n_images"] == 0


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"format": "xml"}, "/format"),
        ({"filters": {"status": "open"}}, "/filters/status"),
        ({"filters": {"images": "none"}}, "/filters/images"),
        ({"filters": {"class_ids": ["x"]}}, "/filters/class_ids/0"),
        ({"filters": []}, "/filters"),
        ({"pictures": "all"}, "/pictures"),
    ],
)
def test_a_request_that_means_nothing_is_a_400_that_says_where(ask, body, pointer):
    answer = ask(**body)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert not Export.objects.exists()


def test_classes_of_another_project_are_refused(ask):
    answer = ask(filters={"class_ids": [class_of(make_project()).pk]})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-classes")


def test_folders_are_refused_where_an_image_can_have_several_classes(ask, project):
    Project.objects.update(kind=Project.Kind.SEVERAL_CLASSES)

    answer = ask(format="folders")

    assert (answer.status_code, answer.json()["code"]) == (422, "format-unfit")
    assert "Hugging Face" in answer.json()["detail"]
    assert not Job.objects.filter(kind="export").exists()


def test_a_sixth_export_at_once_is_refused(ask):
    for _ in range(services.MOST_OPEN):
        assert ask().status_code == 202

    answer = ask()
    assert (answer.status_code, answer.json()["code"]) == (409, "too-many-exports")

    do(Export.objects.first())
    assert ask().status_code == 202


def test_annotators_and_strangers_reach_no_export(client_of, project, reviewer):
    _, export = do(start(project, "csv", reviewer))
    addresses = [
        where("exports", project.pk),
        where("export", project.pk, export.pk),
        where("export_download", project.pk, export.pk),
    ]

    annotator, stranger = client_of(make_member(project)), client_of(make_project().created_by)

    for address in addresses:
        assert annotator.get(address).status_code == 403
        assert stranger.get(address).status_code == 404
        elsewhere = address.replace(f"/{project.pk}/", f"/{make_project().pk}/")
        assert client_of(reviewer).get(elsewhere).status_code == 404


def test_what_is_not_written_or_gone_is_not_downloaded(client, project):
    export = start(project, "csv")
    address = where("export_download", project.pk, export.pk)

    answer = client.get(address)
    assert (answer.status_code, answer.json()["code"]) == (409, "export-not-ready")

    _, export = do(export)
    export.path.unlink()
    assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-", 200, slice(None)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=10-999999", 206, slice(10, None)),
        ("bytes=20-10", 200, slice(None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
    ],
)
def test_a_download_goes_on_where_it_was_cut_off(client, project, wanted, status, part):
    _, export = do(start(project, "coco"))
    content = export.path.read_bytes()
    address = where("export_download", project.pk, export.pk)

    answer = client.get(address, headers={"Range": wanted})

    assert answer.status_code == status
    assert b"".join(answer.streaming_content) == content[part]
    assert int(answer["Content-Length"]) == len(content[part])
    if status == 206:
        first = len(content[: part.start])
        last = first + len(content[part]) - 1
        assert answer["Content-Range"] == f"bytes {first}-{last}/{len(content)}"


def test_a_download_of_other_bytes_begins_anew_and_one_beyond_the_end_is_refused(client, project):
    _, export = do(start(project, "coco"))
    address = where("export_download", project.pk, export.pk)
    size = str(export.n_bytes)

    def status(**headers):
        return client.get(address, headers=headers).status_code

    assert status(Range="bytes=5-", **{"If-Range": f'"{export.sha256}"'}) == 206
    assert status(Range="bytes=5-", **{"If-Range": '"other"'}) == 200
    assert status(Range=f"bytes={size}-") == status(Range="bytes=-0") == 416


# --- Stopped and deleted ------------------------------------------------------------------------


def while_writing(monkeypatch, action):
    """Let something happen when the labels are read and the file is about to be written."""
    write = writing._write

    def and_then(*arguments):
        action()
        return write(*arguments)

    monkeypatch.setattr(writing, "_write", and_then)
    monkeypatch.setattr(writing, "PROGRESS_EVERY_S", 0)


def test_an_export_that_waits_is_cancelled_at_once(client, project):
    export = start(project, "csv")

    answer = client.post(where("export_cancel", project.pk, export.pk))

    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert do(export)[0] == "not mine"
    assert kinds() == ["export.requested", "export.cancelled"]


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_is_written_is_cancelled_and_leaves_nothing(
    client, project, monkeypatch, exports_root, name
):
    export = start(project, name)
    address = where("export_cancel", project.pk, export.pk)
    while_writing(monkeypatch, lambda: client.post(address))

    outcome, export = do(export)

    assert (outcome, export.state) == ("cancelled", "cancelled")
    assert files(exports_root) == []


@pytest.mark.usefixtures("images")
def test_an_export_deleted_while_it_is_written_is_gone(client, project, monkeypatch, exports_root):
    export = start(project, "csv")
    address = where("export", project.pk, export.pk)
    while_writing(monkeypatch, lambda: client.delete(address))

    assert jobs.run(export.job_id) == "cancelled"

    assert not Export.objects.exists()
    assert files(exports_root) == []


def test_a_finished_export_is_deleted_with_its_file(client, project, exports_root):
    _, export = do(start(project, "csv"))
    assert files(exports_root) == [export.stored_name]

    assert client.delete(where("export", project.pk, export.pk)).status_code == 204

    assert client.get(where("export", project.pk, export.pk)).status_code == 404
    assert files(exports_root) == []
    assert kinds()[-1] == "export.deleted"


@pytest.mark.usefixtures("images")
def test_the_export_of_an_archived_project_ends(project, monkeypatch, exports_root):
    export = start(project, "csv")
    lead = project.created_by
    while_writing(monkeypatch, lambda: delete_project(project=project, actor=lead, now=now()))

    outcome, export = do(export)

    assert (outcome, export.job.error) == ("cancelled", "The project was archived.")
    assert files(exports_root) == []


# --- Killed, failed -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crasher(django_db_setup):
    crasher = Crasher(data=settings.DATA_DIR, database=connection.settings_dict)
    yield crasher
    crasher.stop()


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    "place",
    [
        "annotator.exports.records:_classes_of",
        "annotator.exports.writing:_write",
        "annotator.exports.writing:_note",
    ],
)
def test_a_killed_export_is_done_again_and_what_it_left_is_swept(
    project, crasher, monkeypatch, place
):
    monkeypatch.setattr(settings, "EXPORTS_ROOT", settings.DATA_DIR / "exports")
    export = start(project, "csv")
    keep_house_first = files(settings.EXPORTS_ROOT)

    assert crasher.do(export.job_id, place, "after") == KILLED

    left = set(files(settings.EXPORTS_ROOT)) - set(keep_house_first)
    assert left
    services.sweep_exports(now=now())
    assert left <= set(files(settings.EXPORTS_ROOT)), "its job is still open"
    jobs.sweep(now=now() + settings.JOB_LEASE * 2)
    outcome, export = do(export)
    assert (outcome, export.job.attempt) == ("done", 2)
    services.sweep_exports(now=now())
    assert not left & set(files(settings.EXPORTS_ROOT))
    assert export.path.is_file()


def test_an_export_whose_worker_is_killed_three_times_is_parked_with_its_error(project):
    export = start(project, "csv")
    Job.objects.filter(pk=export.job_id).update(
        state=Job.State.RUNNING, attempt=settings.JOB_MAX_ATTEMPTS, lease_until=now() - HOUR
    )

    jobs.sweep(now=now())

    export = Export.objects.select_related("job").get()
    assert export.state == "failed"
    assert "stopped 3 times" in export.job.error
    assert kinds() == ["export.requested", "export.failed"]


@pytest.mark.usefixtures("images")
def test_a_worker_that_was_taken_for_dead_publishes_nothing(project, monkeypatch, exports_root):
    export = start(project, "csv")
    publish, wakes = writing._publish, []

    def late(*arguments):
        if not wakes:
            wakes.append(True)
            Job.objects.update(lease_until=now() - HOUR)
            jobs.sweep(now=now())
            assert jobs.run(export.job_id) == "done"
        publish(*arguments)

    monkeypatch.setattr(writing, "_publish", late)

    assert do(export)[0] == "lost"

    export = Export.objects.get()
    assert files(exports_root) == [export.stored_name]
    assert kinds().count("export.done") == 1


@pytest.mark.usefixtures("images")
def test_a_full_disk_is_said_in_words_and_leaves_nothing(
    client, project, monkeypatch, exports_root
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing.os, "fsync", full)

    outcome, export = do(start(project, "csv"))

    assert outcome == "failed"
    shown = client.get(where("export", project.pk, export.pk)).json()
    assert shown["error"].startswith("The server's disk is full.")
    assert files(exports_root) == []


def test_a_picture_that_is_missing_is_named_and_not_tried_again(project, images):
    default_storage.delete(images[1].original_name)

    outcome, export = do(start(project, "folders"))

    assert (outcome, export.job.state) == ("failed", "failed")
    assert images[1].key.hex in export.job.error


# --- Swept --------------------------------------------------------------------------------------


def test_old_exports_go_with_their_files_and_young_ones_stay(project, exports_root):
    _, old = do(start(project, "csv"))
    _, young = do(start(project, "csv"))
    failed = start(project, "csv")
    Job.objects.filter(pk=failed.job_id).update(state=Job.State.FAILED)
    long_ago = now() - DAY * settings.EXPORT_DAYS - HOUR
    Export.objects.filter(pk=old.pk).update(finished_at=long_ago)
    Export.objects.filter(pk=failed.pk).update(created_at=long_ago)

    housekeeping.keep_house(now=now())

    assert list(Export.objects.all()) == [young]
    assert files(exports_root) == [young.stored_name]


@pytest.mark.usefixtures("images")
def test_the_sweeper_takes_nothing_of_an_export_that_is_being_written(
    project, monkeypatch, exports_root
):
    export = start(project, "csv")
    Export.objects.update(created_at=now() - DAY * 365)
    while_writing(monkeypatch, lambda: services.sweep_exports(now=now() + DAY * 365))

    outcome, export = do(export)

    assert outcome == "done"
    assert files(exports_root) == [export.stored_name]


def test_files_without_a_row_are_swept_and_those_of_others_stay(project, exports_root):
    exports_root.mkdir(parents=True)
    (exports_root / f"{'a' * 32}-1.part").touch()
    (exports_root / "README-1").touch()

    services.sweep_exports(now=now())

    assert files(exports_root) == ["README-1"]
