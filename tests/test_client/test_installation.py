"""The client against a whole installation: a real server, a real worker, and violence."""

import csv
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from client_kit import ROOT, annotator, make_pictures
from installation_kit import Installation
from services import free_port

from annotator_client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CLASSES, PER_CLASS = ("hat", "pants", "shoes"), 14


@pytest.fixture(scope="module")
def hook_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def installation(tmp_path_factory, hook_port):
    installation = Installation(
        tmp_path_factory.mktemp("installation"),
        ANNOTATOR_OUTBOUND_ALLOW="127.0.0.1",
        ANNOTATOR_OUTBOUND_PORTS=str(hook_port),
    )
    yield installation
    installation.stop()


@pytest.fixture(scope="module")
def access(installation) -> dict[str, str]:
    """What a program has in its environment."""
    made = subprocess.run(
        [sys.executable, str(ROOT / "bin/run"), "--data", str(installation.folder),
         "manage", "create_token", "admin"],
        capture_output=True, text=True, check=True, env=installation.environment,
    )  # fmt: skip
    return {
        "ANNOTATOR_URL": f"http://127.0.0.1:{installation.port}",
        "ANNOTATOR_TOKEN": made.stdout.strip(),
    }


@pytest.fixture
def client(access):
    with Client(access["ANNOTATOR_URL"], access["ANNOTATOR_TOKEN"]) as client:
        yield client


@pytest.fixture(scope="module")
def photos(tmp_path_factory, shared_data) -> Path:
    """A folder of real photos, one sub-folder per class."""
    folder = tmp_path_factory.mktemp("photos")
    with tarfile.open(shared_data / "clothing10.tar") as tar:
        names = sorted(member.name for member in tar.getmembers())
        for label in CLASSES:
            (folder / label).mkdir()
            wanted = [name for name in names if f"train/{label}/" in name and name.endswith("jpg")]
            for name in wanted[:PER_CLASS]:
                (folder / label / Path(name).name).write_bytes(tar.extractfile(name).read())
    return folder


def _process(*command, access, **options):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, **access, "PYTHONPATH": str(ROOT / "client")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that started the tests in the background has let them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def test_forty_lines_upload_predict_label_most_uncertain_first_train_and_verify_a_webhook(
    client, access, photos, hook_port
):
    script = ROOT / "docs/examples/bot.py"
    bot = _process(script, photos, hook_port, access=access)

    said, errors = bot.communicate(timeout=240)

    assert (bot.returncode, errors.replace(_log_of(hook_port, errors), "")) == (0, "")
    assert len(script.read_text().splitlines()) <= 40
    project = client.project("Sorted by a bot")
    last = int(re.search(r"round (\d+) done", said).group(1))
    # Of the last round, or of one of a batch of labels that ended just before it.
    (verified,) = re.findall(r"verified: round\.done {.*'round': (\d+)", said)
    assert last - 1 <= int(verified) <= last
    _check_order(project)
    curve = project.metrics().curve
    assert curve[-1].n_labels == len(CLASSES) * PER_CLASS
    assert f"({curve[-1].n_labels}, {curve[-1].accuracy})" in said


def _log_of(port, errors):
    """Return the line the receiver's own library writes for a request."""
    return "".join(line for line in errors.splitlines(keepends=True) if '"POST / HTTP' in line)


def _check_order(project):
    """See that each image was more uncertain than the next, by what was posted."""
    rows = project.transport.rows(f"projects/{project.id}/predictions/", model="colours")
    top_two = {row["image_id"]: sorted(row["probabilities"].values())[-2:] for row in rows}
    margins = {image: best - second for image, (second, best) in top_two.items()}
    given = [label.image_id for label in sorted(project.annotations(), key=lambda a: a.id)]
    assert set(given) == set(margins)
    assert len(given) == len(CLASSES) * PER_CLASS
    assert np.all(np.diff([margins[image] for image in given]) > -1e-5)
    assert given != sorted(given)
    names = {entry.id: entry.name for entry in project.classes}
    folder_of = {image.id: image.file_name for image in project.images()}
    assert {names[label.class_ids[0]] for label in project.annotations()} == set(CLASSES)
    assert len(folder_of) == len(given)


def test_a_server_that_is_killed_in_the_middle_of_an_upload_loses_and_doubles_nothing(
    client, installation, tmp_path
):
    pictures = make_pictures(tmp_path, 300, size=160)
    project = client.create_project("Killed")
    told = []
    uploaded = []
    work = threading.Thread(
        target=lambda: uploaded.append(project.upload(pictures, on_result=told.append))
    )
    work.start()

    for due in (40, 150):
        _until(lambda due=due: len(told) >= due, work)
        installation.kill("web")

    work.join(timeout=200)
    (done,) = uploaded
    assert [file.path for file in done.files] == pictures
    assert done.rejected == []
    # A file whose answer was lost is there already when it is sent again.
    images = [file.image.id for file in done.files]
    assert len(set(images)) == 300
    assert {image.id for image in project.images()} == set(images)
    assert project.refresh().info.n_images == 300


def _until(condition, work, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert work.is_alive(), "it was over before it was disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_upload_that_was_interrupted_goes_on_where_it_was(client, access, tmp_path):
    pictures = make_pictures(tmp_path / "photos", 400, seed=7, size=160)
    command = ("-m", "annotator_client", "upload", "Interrupted", tmp_path / "photos", "--create")
    first = _process(*command, access=access)
    deadline = time.monotonic() + 60
    while not any(p.name == "Interrupted" and next(p.images(), None) for p in client.projects()):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=60)
    project = client.project("Interrupted")
    n_before = len(list(project.images()))

    again = annotator(*command[2:], **access)

    assert first.returncode == 130
    assert "Interrupted. The same command goes on where it was." in errors
    assert 0 < n_before < len(pictures)
    left = len(pictures) - n_before
    assert f"{left} added, {n_before} there already, 0 refused" in again.stdout
    assert len(list(project.images())) == len(pictures)


def test_what_happens_is_followed_live(client, access, tmp_path):
    project = client.create_project("Followed", ["a", "b"])
    project.upload(make_pictures(tmp_path, 8))
    watcher = _process(
        "-m", "annotator_client", "watch", project.id, "--after", 0, "--until", "round.done",
        access=access,
    )  # fmt: skip

    ended = project.run_round()

    said, errors = watcher.communicate(timeout=60)
    assert (watcher.returncode, errors) == (0, "")
    assert ended.state == "done"
    kinds = [line.split()[1] for line in said.splitlines()]
    assert kinds[0] == "project.created"
    assert kinds[-1] == "round.done"


def test_the_labels_are_written_and_downloaded(client, access, tmp_path):
    pytest.importorskip("annotator.exports")
    project = client.create_project("Exported", ["a", "b"])
    uploaded = project.upload(make_pictures(tmp_path / "photos", 5))
    for file, name in zip(uploaded.created, "abab", strict=False):
        project.label(file.image.id, name)
    target = tmp_path / "labels.csv"

    done = annotator("export", "Exported", "--format", "csv", "-o", target, **access)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"Exported: written to {target}." in done.stdout
    rows = list(csv.DictReader(target.open()))
    assert len(rows) == 4
    assert {row["file_name"] for row in rows} == {file.path.name for file in uploaded.files[:4]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "photos"]
    refused = annotator("export", "Exported", "--format", "nonsense", **access)
    assert refused.returncode == 3
    assert "/format" in refused.stderr


def test_the_package_is_installed_by_pip_where_nothing_else_is(tmp_path, access):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"

    done = subprocess.run(
        [programs / "pip", "install", "-q", "--disable-pip-version-check", ROOT / "client"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        [programs / "annotator", "projects"],
        capture_output=True, text=True, cwd=tmp_path, env={**access, "PATH": str(programs)},
    )  # fmt: skip
    assert (listed.returncode, listed.stderr) == (0, "")
    typed = "import annotator_client, pathlib; print(annotator_client.__file__)"
    where = subprocess.run(
        [programs / "python", "-c", typed], capture_output=True, text=True, cwd=tmp_path
    )
    assert (Path(where.stdout.strip()).parent / "py.typed").exists()
