import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connection
from factories import make_images, make_member, make_project, now, store_files
from queue_kit import DIM, do_open_jobs, embed, label

from workqueue import services
from workqueue.models import ModelVersion
from workqueue.requests import request_round, state_of

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project():
    """A project in the middle of its work: files, embeddings, a trained model, a ranking."""
    project = make_project()
    images = make_images(project, 90)
    store_files(images)
    truth = embed(project, images, np.eye(3, DIM) * 3)
    request_round(project=project, trigger="person")
    do_open_jobs()
    label(project, make_member(project), truth, 20)
    do_open_jobs()
    assert ModelVersion.objects.exists()
    return project, truth


@pytest.fixture
def elsewhere(tmp_path):
    """The environment of another, empty installation with a database of the same kind."""
    data = tmp_path / "elsewhere"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("ANNOTATOR_")},
        "ANNOTATOR_SECRET_KEY": "another-secret-" * 5,
        "ANNOTATOR_DATA_DIR": str(data),
        "DJANGO_SETTINGS_MODULE": "annotator.settings",
    }
    if connection.vendor == "sqlite":
        yield environment
        return
    name = f"elsewhere_{uuid.uuid4().hex}"
    given = connection.settings_dict
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    address = f"{given['USER']}@{given['HOST']}:{given['PORT']}/{name}"
    yield environment | {"ANNOTATOR_DATABASE_URL": f"postgres://{address}"}
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name}")


def manage(environment, *arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )


AUDIT = """
import json
from django.core.files.storage import default_storage
from django.utils import timezone
from annotator.accounts.models import User
from annotator.labeling.models import Project
from annotator.operations import archives, stores
from workqueue import services
from workqueue.models import Lease, Submission

places = stores.stores()
wrong = []
for file in stores.named_files("default"):
    with places[file.store].open(file.name) as opened:
        if file.sha256 and archives.hash_of(opened).sha256 != file.sha256:
            wrong.append(file.path)
project = Project.objects.get()
user, served = User.objects.first(), []
open_images = list(project.images.filter(status="open").values_list("pk", flat=True))
while leases := services.claim(user=user, project=project, n=20, now=timezone.now()).leases:
    served += [lease.image_id for lease in leases]
    for lease in leases:
        Lease.objects.filter(pk=lease.pk).update(state="submitted")
        project.images.filter(pk=lease.image_id).update(status="labelled")
keys = list(Submission.objects.values_list("key", flat=True))
print(json.dumps({"keys": keys, "wrong": wrong, "served": served, "open": open_images}))
"""


class Annotator(threading.Thread):
    """Labels one image after another until told to stop; remembers what was acknowledged."""

    def __init__(self, project, truth):
        super().__init__()
        self.project, self.truth, self.user = project, truth, make_member(project)
        self.acknowledged, self.enough, self.stopping = [], threading.Event(), threading.Event()

    def run(self):
        try:
            while not self.stopping.is_set():
                claimed = services.claim(user=self.user, project=self.project, n=1, now=now())
                if not claimed.leases:
                    return
                (lease,) = claimed.leases
                key = uuid.uuid4().hex
                services.submit(
                    user=self.user, project=self.project, key=key, lease_token=str(lease.token),
                    class_ids=[self.truth[lease.image_id].pk], now=now(),
                )  # fmt: skip
                self.acknowledged.append(key)
                if len(self.acknowledged) == 10:
                    self.enough.set()
        finally:
            connection.close()


def test_a_backup_under_load_restores_elsewhere_with_every_label_file_and_the_order(
    project, elsewhere, tmp_path
):
    project, truth = project
    ranking = state_of(project).ranking
    order = list(ranking.positions.values_list("image", flat=True))
    annotator = Annotator(project, truth)
    annotator.start()
    annotator.enough.wait(30)
    before = list(annotator.acknowledged)

    call_command("backup", tmp_path / "a.tar", verbosity=0)
    annotator.stopping.set()
    annotator.join()
    restored = manage(elsewhere, "restore", tmp_path / "a.tar")

    assert restored.returncode == 0, restored.stderr
    assert "counts and hashes are those of the backup" in restored.stdout
    seen = manage(elsewhere, "shell", "--no-imports", "-c", AUDIT)
    assert seen.returncode == 0, seen.stderr
    found = json.loads(seen.stdout.splitlines()[-1])
    assert len(before) >= 10
    assert set(before) <= set(found["keys"])
    assert found["wrong"] == []
    ranked = [pk for pk in order if pk in found["open"]]
    at_that_moment = found["served"]
    held = set(found["open"]) - set(at_that_moment)
    assert len(held) <= 1
    assert at_that_moment[: len(ranked) - len(held & set(ranked))] == [
        pk for pk in ranked if pk not in held
    ]
