import json
import sys
from pathlib import Path

import numpy as np
import pytest
from client_kit import annotator, make_pictures, token_for
from factories import class_of, make_images, make_ranking, make_user
from services import free_port

from annotator.accounts.models import Scope
from annotator.events import services as events
from annotator.labeling.models import Annotation, Image, Project
from annotator_client import cli
from workqueue.models import Prediction, Skip

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(live_server, token):
    """Run the command as the lead."""

    def run(*arguments, **environment):
        address = {"ANNOTATOR_URL": live_server.url, "ANNOTATOR_TOKEN": token}
        return annotator(*arguments, **(address | environment))

    return run


def test_pictures_are_uploaded_to_a_project_that_is_made(run, tmp_path):
    make_pictures(tmp_path / "photos", 5)
    (tmp_path / "notes.txt").write_text("no picture")

    first = run("upload", "Pets", tmp_path / "photos", "--create", "--class", "cat", "--class", "x")
    again = run("upload", "Pets", tmp_path / "photos", tmp_path / "notes.txt", "--create")

    assert (first.returncode, first.stderr) == (0, "")
    project = Project.objects.get(name="Pets")
    assert f"Made the project Pets ({project.pk})." in first.stdout
    assert "Pets: 5 added, 0 there already, 0 refused." in first.stdout
    assert [entry.name for entry in project.classes.all()] == ["cat", "x"]
    assert again.returncode == 1
    assert "Pets: 0 added, 5 there already, 1 refused." in again.stdout
    assert f"refused {tmp_path / 'notes.txt'}: " in again.stderr


def test_a_file_of_labels_is_given_in_the_order_of_the_queue(run, project, tmp_path):
    stored = Project.objects.get(pk=project.id)
    images = make_images(stored, 4)
    make_ranking(stored, images[::-1])
    table = tmp_path / "labels.csv"
    rows = [
        f"{image.file_name},{name}" for image, name in zip(images, ["cat", "dog"], strict=False)
    ]
    table.write_text("\n".join(["file_name,class", *rows]))

    done = run("label", project.id, "--with", table)

    assert done.returncode == 1
    assert "2 labelled, 2 skipped." in done.stdout
    given = {
        label.image_id: label.regions.get().label_class.name
        for label in Annotation.objects.order_by("pk")
    }
    assert list(given.items()) == [(images[1].pk, "dog"), (images[0].pk, "cat")]
    assert set(Skip.objects.values_list("image", flat=True)) == {images[2].pk, images[3].pk}


def test_a_program_labels_what_it_sees(run, client, project, tmp_path):
    project.upload(make_pictures(tmp_path / "photos", 3))
    bot = tmp_path / "bot.py"
    bot.write_text(
        "import sys\nfrom PIL import Image\n"
        "assert Image.open(sys.argv[1]).format == 'JPEG'\nprint('dog')\n"
    )

    done = run("label", project.name, "--command", f"{sys.executable} {bot}", "--limit", 2)

    assert (done.returncode, done.stderr) == (0, "")
    assert "2 labelled, 0 skipped." in done.stdout
    assert Annotation.objects.count() == 2


def test_a_program_that_fails_labels_nothing(run, project, tmp_path):
    project.upload(make_pictures(tmp_path / "photos", 1))

    done = run("label", project.id, "--command", f"{sys.executable} -c 'raise ValueError(7)'")

    assert done.returncode == 3
    assert "failed at" in done.stderr
    assert "ValueError: 7" in done.stderr
    assert Annotation.objects.count() == 0


def test_without_a_file_the_labeling_page_is_opened(live_server, token, project, monkeypatch):
    opened = []
    monkeypatch.setattr(cli.webbrowser, "open", opened.append)

    code = cli.main(["--url", live_server.url, "--token", token, "label", str(project.id)])

    assert code == 0
    assert opened == [f"{live_server.url}/projects/{project.id}/label/"]


@pytest.mark.parametrize("kind", ["csv", "npz"])
@pytest.mark.parametrize("named_by", ["id", "file_name"])
def test_probabilities_come_from_a_file(run, project, tmp_path, kind, named_by):
    images = make_images(Project.objects.get(pk=project.id), 3)
    names = [image.pk if named_by == "id" else image.file_name for image in images]
    table = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]])
    file = tmp_path / f"table.{kind}"
    if kind == "csv":
        column = "image" if named_by == "id" else "file_name"
        lines = [f"{name},{dog},{cat}" for name, (dog, cat) in zip(names, table, strict=True)]
        file.write_text("\n".join([f"{column},dog,cat", *lines]))
    else:
        key = "images" if named_by == "id" else "file_names"
        np.savez(file, **{key: names, "probabilities": table, "classes": ["dog", "cat"]})

    done = run("predict", project.id, file, "--model", "mine")

    assert (done.returncode, done.stderr) == (0, "")
    assert "mine predicts 3 images for the first time, 0 anew; 0 are not in the" in done.stdout
    first = Prediction.objects.get(image=images[0])
    assert np.frombuffer(bytes(first.probabilities), "<f4") == pytest.approx([0.1, 0.9])
    stored = Project.objects.get(pk=project.id)
    assert first.external_model.class_ids == [class_of(stored, n).pk for n in ("dog", "cat")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2", "needs a column image or"),
        ("image,cat,dog\nx,1,0", "“x” is no id of an image"),
        ("image,cat,dog\n1,1,zero", "line 2: “zero” is no number"),
        ("image,cat,dog\n1,1,nan", "line 2: “nan” is no number"),
        ("image,cat,dog\n1,1", "line 2: “” is no number"),
        ("image,cow,dog\n1,1,0", "has no class “cow”"),
        (b"\xff\xfe\x00", "it is no text in UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_sentence(run, project, tmp_path, text, said):
    file = tmp_path / "table.csv"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    done = run("predict", project.id, file, "--model", "m")

    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_happens_is_told_until_what_was_waited_for(run, project):
    for kind in ("round.requested", "round.done", "class.added"):
        events.record(kind=kind, project_id=project.id, actor_id=None, payload={"round": 4})

    told = run("watch", project.id, "--after", 0, "--until", "round.done")
    as_json = run("watch", project.id, "--after", 0, "--json", "--until", "round.done")

    assert told.returncode == 0
    assert [line.split()[1] for line in told.stdout.splitlines()][-2:] == [
        "round.requested",
        "round.done",
    ]
    assert json.loads(as_json.stdout.splitlines()[-1])["payload"] == {"round": 4}


def test_projects_are_listed_and_a_name_of_two_is_refused(run, client, project):
    client.create_project(project.name)

    listed = run("projects")
    refused = run("watch", project.name)

    assert len(listed.stdout.splitlines()) == 2
    assert refused.returncode == 3
    assert f"2 of your projects have the name “{project.name}”" in refused.stderr


def test_a_wrong_token_a_small_scope_and_an_unknown_project_each_say_what_to_do(
    run, lead, project, tmp_path
):
    make_pictures(tmp_path, 1)

    wrong = run("projects", ANNOTATOR_TOKEN="annp_wrong")
    small = run("upload", project.id, tmp_path, ANNOTATOR_TOKEN=token_for(lead, Scope.READ))
    foreign = run("upload", project.id, tmp_path, ANNOTATOR_TOKEN=token_for(make_user()))
    missing = run("projects", ANNOTATOR_TOKEN="")

    assert [each.returncode for each in (wrong, small, foreign, missing)] == [3, 3, 3, 3]
    assert "Make one on your account page" in wrong.stderr
    assert "A lead can give you another role or token" in small.stderr
    assert "There is no such project" in foreign.stderr
    assert "ANNOTATOR_TOKEN is not set" in missing.stderr
    assert Image.objects.count() == 0
    for each in (wrong, small, foreign, missing):
        assert len(each.stderr.splitlines()) == 1


def test_wrong_options_are_a_status_of_their_own_and_the_help_names_them(run):
    assert run("upload").returncode == 2
    told = run("--help").stdout
    for command in ("projects", "upload", "label", "export", "predict", "watch"):
        assert command in told
    assert "exit status: 0 done" in told


def test_a_server_that_is_away_is_told(capsys):
    address = f"http://127.0.0.1:{free_port()}"

    code = cli.main(["--url", address, "--token", "x", "--patience", "0", "projects"])

    assert code == 3
    assert "does not answer" in capsys.readouterr().err


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(monkeypatch, capsys):
    from annotator_client import progress

    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    with progress.Progress("Upload", 2, "files") as plain:
        plain.add()
    lines = capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress("Upload", 2, "files") as bar:
        bar.add(2)

    assert lines == "Upload: 1 of 2 files\n"
    assert "2/2" in capsys.readouterr().err


def test_the_package_is_typed_and_stands_alone():
    package = Path(cli.__file__).parent

    assert (package / "py.typed").exists()
    assert not any("django" in path.read_text() for path in package.glob("*.py"))
