import shutil
import threading
import time

import pytest
from client_kit import make_pictures

from annotator.labeling.models import Image
from annotator_client import AnnotatorError, NotFoundError

pytestmark = pytest.mark.django_db(transaction=True)


def _n_stored(project):
    return Image.objects.filter(project=project.id, deleted_at=None).count()


def test_every_file_has_its_own_result_in_the_order_given(project, tmp_path):
    good = make_pictures(tmp_path, 40)
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    doubled = shutil.copy(good[3], tmp_path / "copy.png")
    missing = tmp_path / "missing.jpg"

    done = project.upload([*good[:20], text, missing, doubled, *good[20:]])

    assert [file.path for file in done.files] == [
        *good[:20], text, missing, doubled, *good[20:],
    ]  # fmt: skip
    assert [file.path for file in done.created] == good
    assert [(file.path.name, file.code) for file in done.rejected] == [
        ("notes.txt", "not-an-image"),
        ("missing.jpg", "unreadable"),
    ]
    assert "No such file" in done.rejected[1].reason
    assert [file.path.name for file in done.duplicates] == ["copy.png"]
    assert done.duplicates[0].image == done.created[3].image
    assert done.summary == "40 added, 1 there already, 2 refused"
    stored = {image.pk: image.file_name for image in Image.objects.filter(project=project.id)}
    assert {file.image.id: file.path.name for file in done.created} == stored


def test_a_copy_of_a_refused_file_is_refused_and_not_called_known(project, tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("the same")

    done = project.upload([tmp_path / "a.txt", tmp_path / "b.txt"])

    assert [file.result for file in done.files] == ["rejected", "rejected"]


def test_what_is_there_already_is_not_sent_again(project, tmp_path, monkeypatch):
    old = make_pictures(tmp_path / "old", 5)
    project.upload(old)
    sent = []
    really = project.transport.send

    def send(method, path, **options):
        sent.extend(name for _, (name, _) in options.get("files") or [])
        return really(method, path, **options)

    monkeypatch.setattr(project.transport, "send", send)
    new = make_pictures(tmp_path / "new", 2, seed=1)

    done = project.upload([*old, *new])

    assert sorted(sent) == sorted(path.name for path in new)
    assert [file.result for file in done.files] == ["duplicate"] * 5 + ["created"] * 2


def test_folders_give_their_pictures_and_nothing_hidden(project, tmp_path):
    make_pictures(tmp_path / "deep" / "er", 2)
    make_pictures(tmp_path / ".cache", 1, seed=1)
    (tmp_path / "deep" / "labels.csv").write_text("not sent")
    empty = tmp_path / "empty"
    empty.mkdir()

    done = project.upload([tmp_path])

    assert [file.path.parent.name for file in done.files] == ["er", "er"]
    with pytest.raises(AnnotatorError, match="There are no pictures in"):
        project.upload([empty])


@pytest.mark.parametrize(
    "name", ["mäuse 🐭.png", "a\\b.png", "&#8203;", "&amp;#8203;", "\u200b", 'q"uote.png']
)
def test_a_file_arrives_whatever_it_is_called(project, tmp_path, name):
    (picture,) = make_pictures(tmp_path, 1)
    plain = make_pictures(tmp_path, 2, seed=1)
    odd = picture.rename(tmp_path / name)

    done = project.upload([plain[0], odd, plain[1]])

    assert _n_stored(project) == 3
    assert [file.result for file in done.files] == ["created"] * 3


def test_a_name_that_is_no_text_is_sent_all_the_same(project, tmp_path):
    (picture,) = make_pictures(tmp_path, 1)
    odd = picture.rename(tmp_path / "bad\udcff.png")

    assert [file.result for file in project.upload([odd]).files] == ["created"]


def test_images_are_known_by_what_the_own_system_calls_them(project, tmp_path):
    pictures = make_pictures(tmp_path, 3)

    done = project.upload(pictures, external_id=lambda path: f"cam1/{path.stem}")
    again = project.upload(pictures[:1], external_id=lambda path: "another")

    assert [file.image.external_id for file in done.created] == [
        f"cam1/{path.stem}" for path in pictures
    ]
    assert [file.code for file in again.rejected] == ["external-id-differs"]


def test_results_are_told_as_they_come(project, tmp_path):
    told = []

    done = project.upload(make_pictures(tmp_path, 40), on_result=told.append)

    assert sorted(told, key=lambda file: file.path) == done.files


def test_an_upload_to_what_is_not_yours_ends_at_once(client, project, tmp_path):
    client.transport.write("DELETE", f"projects/{project.id}/")

    with pytest.raises(NotFoundError, match="archived"):
        project.upload(make_pictures(tmp_path, 3))


def test_no_more_requests_than_threads_are_under_way(project, tmp_path, monkeypatch):
    under_way, most, lock = [0], [0], threading.Lock()
    really = project.transport.send

    def send(method, path, **options):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.02)
        try:
            return really(method, path, **options)
        finally:
            with lock:
                under_way[0] -= 1

    monkeypatch.setattr(project.transport, "send", send)

    project.upload(make_pictures(tmp_path, 100), threads=2)

    assert most[0] == 2
