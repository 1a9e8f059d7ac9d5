"""Q-22: an export is of one moment, whatever people do meanwhile, and needs little memory."""

import json
import threading
import tracemalloc

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from exports_kit import do, export_bytes, say, start, store_pictures
from factories import class_of, make_images, make_member, make_project, now

from annotator.exports import records
from annotator.exports.formats import FORMATS, Source
from annotator.exports.models import Export
from annotator.exports.records import Wanted, write_records
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, AnnotationRegion, Image, Project

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def author(project):
    return make_member(project)


def in_thread(function):
    """Do something on another connection and wait for it; it must not wait for the export."""
    errors = []

    def run():
        try:
            function()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive(), "a label waits for the export"
    assert errors == []


def test_what_people_do_while_an_export_is_read_is_not_in_it(
    project, author, monkeypatch, tmp_path
):
    monkeypatch.setattr(records, "AT_ONCE", 2)
    images = make_images(project, 8)
    for image in images[:6]:
        said = say(image, author, "cat")
    wanted = Wanted(images="all", history=True)
    before = tmp_path / "before"
    write_records(project.pk, wanted, before, lambda *_: None)
    turns = []

    def meanwhile(done, total):
        turns.append(done)
        if done == 2:
            in_thread(change_everything)

    def change_everything():
        say(images[7], author, "dog")
        say(images[0], author, "dog")
        labeling.withdraw_annotation(annotation=said, actor=author)
        labeling.update_class(label_class=class_of(project), actor=author, changes={"name": "lion"})
        labeling.delete_class(label_class=class_of(project, "bird"), actor=author, now=now())
        labeling.delete_image(image=images[4], actor=author, now=now())
        make_images(project, 1)

    during = tmp_path / "during"
    contents = write_records(project.pk, wanted, during, meanwhile)

    assert turns == [0, 2, 4, 6, 8]
    assert during.read_bytes() == before.read_bytes()
    assert [entry["name"] for entry in contents.classes] == ["cat", "dog", "bird"]
    after = tmp_path / "after"
    contents = write_records(project.pk, wanted, after, lambda *_: None)
    assert contents.n_images == 8
    assert [entry["name"] for entry in contents.classes] == ["lion", "dog"]
    assert after.read_bytes() != before.read_bytes()


def test_an_export_while_somebody_labels_without_pause_is_of_one_of_the_moments(
    project, author, monkeypatch
):
    monkeypatch.setattr(records, "AT_ONCE", 5)
    images = make_images(project, 60)
    started, stop = threading.Event(), threading.Event()

    def label_all():
        try:
            # From the last to the first: what is read in pages would be full of holes.
            for image in reversed(images):
                say(image, author, "cat")
                started.set()
                if stop.is_set():
                    break
        finally:
            connection.close()

    labeler = threading.Thread(target=label_all)
    labeler.start()
    started.wait(10)
    try:
        exports = [do(start(project, "jsonl")) for _ in range(3)]
    finally:
        stop.set()
        labeler.join()

    order = list(Annotation.objects.order_by("pk").values_list("pk", flat=True))
    assert len(order) > 1
    for outcome, export in exports:
        assert outcome == "done"
        found = {
            label["id"]
            for line in export.path.read_text().splitlines()
            for label in json.loads(line)["labels"]
        }
        assert found == set(order[: len(found)])
        assert export.contents["n_labels"] == len(found)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_moment_gives_the_same_bytes(project, author, name):
    images = make_images(project, 3)
    store_pictures(images)
    for image, said in zip(images, ("cat", "dog", "cat"), strict=True):
        say(image, author, said)

    first, second = export_bytes(project, name), export_bytes(project, name)

    assert first == second
    assert Export.objects.values("sha256").distinct().count() == 1


def many_labels(project, author, n):
    """Label so many images at once, without the services."""
    images = make_images(project, n)
    Image.objects.filter(project=project).update(status="labelled")
    Project.objects.filter(pk=project.pk).update(n_labelled=n, n_labels=n)
    said = Annotation.objects.bulk_create(
        [Annotation(image=image, author=author, served={"score": 0.5}) for image in images],
        batch_size=5000,
    )
    cat = class_of(project)
    AnnotationRegion.objects.bulk_create(
        [AnnotationRegion(annotation=entry, label_class=cat) for entry in said], batch_size=5000
    )


def test_an_export_asks_three_questions_a_page(project, author, monkeypatch, tmp_path):
    monkeypatch.setattr(records, "AT_ONCE", 50)
    counts = []
    for n in (200, 400):
        many_labels(project, author, n - project.images.count())
        with CaptureQueriesContext(connection) as captured:
            write_records(
                project.pk, Wanted(history=True, names=True), tmp_path / "r", lambda *_: 0
            )
        counts.append(len(captured))

    # 200 images more are four pages more.
    assert counts[1] - counts[0] == 4 * 3
    assert counts[0] < 4 * 3 + 20


def peak_of(project, name, tmp_path):
    """Return the most memory Python held while an export was read and written, in bytes."""
    path = tmp_path / "records"
    tracemalloc.start()
    try:
        wanted = Wanted(address="https://a.example/")
        contents = write_records(project.pk, wanted, path, lambda *_: None)
        with (tmp_path / name).open("wb") as target:
            FORMATS[name].write(Source(path, contents, wanted, project.pk, lambda: None), target)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


TEXTS = [name for name, entry in FORMATS.items() if not entry.has_pictures]


@pytest.mark.parametrize("name", TEXTS)
def test_four_times_the_labels_need_no_more_memory(project, author, name, tmp_path):
    many_labels(project, author, 1000)
    few = peak_of(project, name, tmp_path)
    many_labels(project, author, 3000)
    many = peak_of(project, name, tmp_path)

    assert many < 1.3 * few


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_thousand_labels_are_exported_in_thirty_megabytes(project, author, tmp_path):
    many_labels(project, author, 20_000)

    for name in TEXTS:
        assert peak_of(project, name, tmp_path) < 30 * 1024**2
        assert (tmp_path / name).read_bytes().count(b".jpg") >= 20_000


def test_another_projects_labels_are_not_in_it(project, author):
    other = make_project()
    say(make_images(other, 1)[0], make_member(other), "cat")
    (image,) = make_images(project, 1)
    say(image, author, "cat")

    (line,) = export_bytes(project, "jsonl").splitlines()

    assert json.loads(line)["id"] == image.pk
