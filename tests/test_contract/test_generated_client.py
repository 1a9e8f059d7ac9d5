"""A client that somebody else's generator makes of the schema labels images on a real server."""

import importlib
import io
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from installation_kit import Installation
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "openapi.yaml"
TOOLS = Path(sys.executable).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("installation"),
]


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """Return a function that imports a module of the generated client."""
    done = subprocess.run(
        [
            TOOLS / "openapi-python-client", "generate", "--path", GOLDEN,
            "--output-path", tmp_path / "generated", "--meta", "none",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Pieces of an upload are of a media type of tus, for which there are clients of their own.
    left_out = re.findall(
        r"WARNING parsing (\w+ \S+) within [\w ]+\. Endpoint will not", done.stdout + done.stderr
    )
    assert left_out == ["PATCH /api/v1/projects/{project_id}/uploads/{key}/"]
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: importlib.import_module(f"generated.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "generated"]:
        del sys.modules[name]


@pytest.fixture
def installation(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    running = Installation(folder)
    yield running
    running.stop()


def token_of_the_admin(installation):
    done = subprocess.run(
        [
            sys.executable, ROOT / "manage.py", "create_token", "admin", "--scope", "manage",
        ],
        capture_output=True,
        text=True,
        env={
            **installation.environment,
            "ANNOTATOR_DATA_DIR": str(installation.folder),
            "DJANGO_SETTINGS_MODULE": "annotator.settings",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return re.search(r"annp_\w+", done.stdout).group()


def picture(colour):
    content = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(content, "PNG")
    content.seek(0)
    return content


def test_a_generated_client_creates_uploads_claims_submits_and_reads_figures(
    generated, installation
):
    client = generated("client").AuthenticatedClient(
        base_url=f"http://127.0.0.1:{installation.port}",
        token=token_of_the_admin(installation),
        raise_on_unexpected_status=True,
    )
    models, types = generated("models"), generated("types")

    def call(name, *arguments, **body):
        return generated(f"api.{name}").sync(*arguments, client=client, **body)

    classes = [models.ClassIn(name="red"), models.ClassIn(name="blue")]
    made = models.ProjectIn(name="Colours", classes=classes)
    project = call("projects.projects_create", body=made)
    files = [
        types.File(payload=picture(colour), file_name=f"{colour}.png", mime_type="image/png")
        for colour in ("red", "blue")
    ]
    uploaded = call("images.images_create", project.id, body=models.FilesIn(file=files))
    assert [image.file_name for image in uploaded.created] == ["red.png", "blue.png"]

    class_of = {entry.name: entry.id for entry in project.classes}
    claimed = call("queue.claim", project.id, body=models.ClaimIn(n=2))
    for lease in claimed.leases:
        colour = lease.image.file_name.removesuffix(".png")
        label = models.SubmitIn(lease=lease.token, class_ids=[class_of[colour]])
        key = str(uuid.uuid4())
        submitted = call("queue.submit", project.id, body=label, idempotency_key=key)
        assert submitted.annotation.outcome == "accepted"
        again = call("queue.submit", project.id, body=label, idempotency_key=key)
        assert again.annotation.id == submitted.annotation.id

    figures = call("figures_and_events.metrics_get", project.id)
    assert {row.name: row.n_labels for row in figures.per_class} == {"red": 1, "blue": 1}
    listed = call("images.images_list", project.id, limit=1)
    assert len(listed.results) == 1
    assert listed.next_
    refused = call("projects.project_get", project.id + 1)
    assert (refused.status, refused.code) == (404, "not-found")
