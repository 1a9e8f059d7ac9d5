import fcntl
import hashlib
import io
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from api_kit import THINGS
from django.conf import settings
from django.core.files.storage import Storage, default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from factories import make_images, make_member, make_project, now, store_files
from queue_kit import DIM, do_open_jobs, embed, label

from annotator.accounts import services as accounts
from annotator.operations import archives, backups, databases, stores
from annotator.webhooks.models import Delivery
from workqueue import services
from workqueue.models import ExternalModel, ModelVersion, Prediction, Segment
from workqueue.requests import request_round, state_of

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.django_db(transaction=True)

postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="for PostgreSQL")


@pytest.fixture
def project():
    """A project in the middle of its work: files, embeddings, a trained model, a ranking."""
    project = make_project()
    images = make_images(project, 200)
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


def manage(environment, *arguments, file_bytes=resource.RLIM_INFINITY):
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
    )


def asked(environment, sql):
    code = f"from django.db import connection as c; x = c.cursor(); x.execute({sql!r}); "
    seen = manage(environment, "shell", "--no-imports", "-c", code + "print(x.fetchone()[0])")
    return seen.stdout.strip()


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


# What bin/run's workers note every ten seconds.
DOCTOR = """
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from annotator.jobs import services
for queue in settings.QUEUES:
    services.note_pulse(queue=queue, now=timezone.now())
call_command("doctor", "--json")
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
                time.sleep(0.005)
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
    during = len(annotator.acknowledged) - len(before)
    annotator.stopping.set()
    annotator.join()
    restored = manage(elsewhere, "restore", tmp_path / "a.tar")

    assert restored.returncode == 0, restored.stderr
    assert "counts and hashes are those of the backup" in restored.stdout
    seen = manage(elsewhere, "shell", "--no-imports", "-c", AUDIT)
    assert seen.returncode == 0, seen.stderr
    found = json.loads(seen.stdout.splitlines()[-1])
    assert len(before) >= 10
    assert during > 0, "nobody waits for a backup"
    assert set(before) <= set(found["keys"])
    assert found["wrong"] == []
    held = set(found["open"]) - set(found["served"])
    assert len(held) <= 1, "only what the annotator held at that moment waits for its lease"
    ranked = [pk for pk in order if pk in set(found["served"])]
    assert found["served"][: len(ranked)] == ranked
    examined = manage(elsewhere, "shell", "--no-imports", "-c", DOCTOR)
    lines = json.loads(examined.stdout)["checks"]
    # The throw-away server of these tests never waits for its disk.
    known = ["database"] if connection.vendor == "postgresql" else []
    assert [line["name"] for line in lines if line["status"] == "failed"] == known


WORKS_AGAIN = """
import json, sys
from django.utils import timezone
from annotator.accounts.services import find_token
from annotator.webhooks import delivering
from annotator.webhooks.models import Delivery, DeliveryAttempt, Webhook
from workqueue.models import Prediction

token = find_token(secret={secret!r}, now=timezone.now())
delivering.deliver(Webhook.objects.get().pk)
print(json.dumps({{
    "token": token.name,
    "said": bytes(Prediction.objects.get().probabilities).hex(),
    "attempts": DeliveryAttempt.objects.count(),
    "switched_off": Webhook.objects.get().disabled_reason,
}}))
"""


def test_tokens_predictions_and_webhooks_come_back_but_with_another_key_nothing_is_sent(
    elsewhere, tmp_path
):
    project = make_project()
    (image,) = make_images(project, 1)
    store_files([image])
    secret = accounts.create_token(user=project.created_by, name="bot", now=now()).secret
    model = ExternalModel.objects.create(project=project, name="ours", class_ids=[1])
    Prediction.objects.create(external_model=model, image=image, probabilities=b"\x00\x00\x80?")
    waiting = THINGS["delivery_id"](project.created_by, project)
    Delivery.objects.filter(pk=waiting).update(state="pending", next_try_at=now())

    call_command("backup", tmp_path / "a.tar", verbosity=0)
    restored = manage(elsewhere, "restore", tmp_path / "a.tar")

    assert restored.returncode == 0, restored.stderr
    code = WORKS_AGAIN.format(secret=secret)
    seen = manage(elsewhere, "shell", "--no-imports", "-c", code)
    assert seen.returncode == 0, seen.stderr
    found = json.loads(seen.stdout.splitlines()[-1])
    assert (found["token"], found["said"], found["attempts"]) == ("bot", "0000803f", 0)
    assert "key was changed" in found["switched_off"]


@pytest.fixture
def backup(tmp_path):
    """A backup of a small installation."""
    project = make_project()
    store_files(make_images(project, 2))
    file = tmp_path / "a.tar"
    call_command("backup", file)
    return file


def test_a_backup_is_readable_by_its_owner_alone_and_never_replaces_another(backup):
    assert backup.stat().st_mode & 0o777 == 0o600
    content = backup.read_bytes()

    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", backup)

    assert backup.read_bytes() == content


def test_in_a_folder_a_backup_is_called_after_its_time(tmp_path):
    make_project()

    call_command("backup", tmp_path)

    (file,) = tmp_path.iterdir()
    assert re.fullmatch(r"annotator-\d{4}-\d\d-\d\d-\d{6}\.tar", file.name)
    with archives.opened(file) as read:
        assert read.manifest.rows["labeling_project"] == 1


def test_of_an_empty_database_no_backup_is_made(elsewhere, tmp_path):
    done = manage(elsewhere, "backup", tmp_path / "a.tar")

    assert (done.returncode, "The database is empty" in done.stderr) == (1, True)
    assert not (tmp_path / "a.tar").exists()


def test_images_in_a_bucket_stay_there_and_no_restore_touches_them(
    elsewhere, tmp_path, monkeypatch, capsys
):
    make_images(make_project(), 2)
    monkeypatch.setattr(stores, "default_storage", Storage())

    call_command("backup", tmp_path / "a.tar")

    assert "they are in the bucket" in capsys.readouterr().out
    with archives.opened(tmp_path / "a.tar") as read:
        assert {name.split("/")[0] for name in read.manifest.files} == {"database"}
    refused = manage(elsewhere, "restore", tmp_path / "a.tar")
    assert (refused.returncode, "ANNOTATOR_S3_BUCKET" in refused.stderr) == (1, True)
    # Nobody answers there.
    bucket = {"ANNOTATOR_S3_BUCKET": "images", "ANNOTATOR_S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    restored = manage(elsewhere | bucket, "restore", tmp_path / "a.tar")
    assert restored.returncode == 0, restored.stderr


def test_a_backup_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is full")

    store_files(make_images(make_project(), 2))
    monkeypatch.setattr(archives.Writer, "add", fail)
    folder = tmp_path / "backups"
    folder.mkdir()

    with pytest.raises(CommandError, match="the disk is full"):
        call_command("backup", folder / "a.tar")

    assert list(folder.iterdir()) == []
    for root in stores.roots().values():
        assert list(root.glob(f"{stores.PIN_PREFIX}*")) == []


@pytest.fixture
def segment():
    """The embeddings of a small project with files."""
    project = make_project()
    images = make_images(project, 4)
    store_files(images)
    embed(project, images, np.eye(3, DIM))
    return Segment.objects.get()


def embeddings_in(file):
    with archives.opened(file) as read:
        assert read.manifest.missing == []
        return [name for name in read.manifest.files if name.startswith("embeddings/")]


def test_what_background_work_deletes_during_a_backup_is_in_it(segment, tmp_path, monkeypatch):
    copy_files = backups._copy_files

    def delete_then_copy(*arguments):
        (settings.EMBEDDINGS_ROOT / segment.name).unlink()
        copy_files(*arguments)

    monkeypatch.setattr(backups, "_copy_files", delete_then_copy)

    call_command("backup", tmp_path / "a.tar")

    assert embeddings_in(tmp_path / "a.tar") == [f"embeddings/{segment.name}"]


def test_the_pins_of_a_backup_that_was_killed_are_removed_by_a_later_one(segment, tmp_path):
    left, new = (settings.EMBEDDINGS_ROOT / f"{stores.PIN_PREFIX}{name}" for name in "ab")
    for pins in (left, new):
        pins.mkdir()
    os.utime(left, (0, 0))

    call_command("backup", tmp_path / "a.tar")

    assert (left.exists(), new.exists()) == (False, True)
    new.rmdir()


def in_another_connection(work):
    """Do something in another thread, and so in another connection."""

    def run():
        work()
        connection.close()

    with ThreadPoolExecutor(1) as other:
        other.submit(run).result(30)


def test_segments_merged_before_they_could_be_pinned_are_read_anew(segment, tmp_path, monkeypatch):
    pin = stores.pinned
    merges = []

    def merge():
        images = list(segment.project.images.all())
        Segment.objects.get(pk=segment.pk).delete()
        embed(segment.project, images, np.eye(3, DIM))
        (settings.EMBEDDINGS_ROOT / segment.name).unlink()

    def merge_then_pin(files):
        if not merges:
            merges.append(in_another_connection(merge))
        return pin(files)

    monkeypatch.setattr(stores, "pinned", merge_then_pin)

    call_command("backup", tmp_path / "a.tar")

    assert embeddings_in(tmp_path / "a.tar") == [f"embeddings/{Segment.objects.get().name}"]


def test_a_file_that_was_lost_before_is_named_and_the_rest_is_kept(segment, tmp_path, capsys):
    lost, kept, *_ = segment.project.images.all()
    default_storage.delete(lost.original_name)
    (settings.EMBEDDINGS_ROOT / segment.name).unlink()

    call_command("backup", tmp_path / "a.tar")

    gone = [f"embeddings/{segment.name}", f"media/{lost.original_name}"]
    said = capsys.readouterr().err
    assert all(name in said for name in gone)
    with archives.opened(tmp_path / "a.tar") as read:
        assert read.manifest.missing == gone
        assert f"media/{kept.original_name}" in read.manifest.files


def rewrite(backup, change):
    """Write the backup again with its members changed."""
    with tarfile.open(backup) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    change(members)
    with tarfile.open(backup, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def a_thumbnail(members):
    return next(name for name in members if name.endswith("thumbnail.jpg"))


def flip_a_byte(members):
    name = a_thumbnail(members)
    members[name] = members[name][:-1] + b"X"


def drop_a_file(members):
    del members[a_thumbnail(members)]


def add_a_file(members):
    members["media/stranger"] = b"x"


def drop_the_manifest(members):
    del members["manifest.json"]


def change_manifest(members, change):
    said = json.loads(members["manifest.json"])
    change(said)
    members["manifest.json"] = json.dumps(said).encode()


def name_a_file_outside(members):
    name = "media/../../escaped"
    members[name] = b"x"
    change_manifest(members, lambda m: m["files"].update({name: {"n_bytes": 1, "sha256": "0"}}))


def come_from_a_newer_version(members):
    change_manifest(members, lambda m: m["migrations"].append("workqueue.0999_newer"))


def have_images_in_a_bucket(members):
    change_manifest(members, lambda m: m.update(has_images=False))


def come_from_another_database(members):
    change_manifest(members, lambda m: m.update(vendor="oracle"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flip_a_byte, "damaged or altered"),
        (drop_a_file, "lacks the file"),
        (add_a_file, "nobody listed"),
        (drop_the_manifest, "no manifest"),
        (name_a_file_outside, "outside its stores"),
        (come_from_a_newer_version, "newer than this one"),
        (come_from_another_database, "oracle database"),
        (have_images_in_a_bucket, "are in a bucket"),
    ],
)
def test_a_backup_that_does_not_fit_or_is_not_whole_changes_nothing(
    backup, elsewhere, change, reason
):
    rewrite(backup, change)

    done = manage(elsewhere, "restore", backup)

    assert done.returncode == 1
    assert reason in done.stderr
    data = Path(elsewhere["ANNOTATOR_DATA_DIR"])
    written = {path.name for path in data.rglob("*") if path.is_file() and path.stat().st_size}
    assert written <= {"annotator.sqlite3"}
    if written:
        with closing(sqlite3.connect(data / "annotator.sqlite3")) as database:
            assert database.execute("SELECT name FROM sqlite_master").fetchall() == []


def say_more_rows(members):
    change_manifest(members, lambda m: m["rows"].update(labeling_image=99))


def say_other_migrations(members):
    change_manifest(members, lambda m: m["migrations"].remove("workqueue.0003_fine_tuning"))


def forget_a_file(members):
    name = a_thumbnail(members)
    del members[name]
    change_manifest(members, lambda m: m["files"].pop(name))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (say_more_rows, "as many rows"),
        (say_other_migrations, "other migrations"),
        (forget_a_file, "which the backup does not hold"),
    ],
)
def test_a_restore_that_differs_from_its_manifest_fails(backup, elsewhere, change, reason):
    rewrite(backup, change)

    done = manage(elsewhere, "restore", backup)

    assert (done.returncode, reason in done.stderr) == (1, True)


@pytest.mark.parametrize("share", [0.1, 0.9, 1])
def test_a_disk_that_fills_up_leaves_no_half_backup(backup, elsewhere, tmp_path, share):
    assert manage(elsewhere, "restore", backup).returncode == 0
    folder = tmp_path / "backups"
    folder.mkdir()

    file_bytes = int(backup.stat().st_size * share) - tarfile.RECORDSIZE
    done = manage(elsewhere, "backup", folder / "b.tar", file_bytes=file_bytes)

    assert (done.returncode, "CommandError" in done.stderr) == (1, True), done.stderr
    assert list(folder.iterdir()) == []


def spoil_the_database(members):
    (name,) = (name for name in members if name.startswith("database/"))
    members[name] = members[name][:2000] + b"spoilt" * 1000
    said = {"n_bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
    change_manifest(members, lambda m: m["files"].update({name: said}))


def test_a_database_that_cannot_be_put_in_place_leaves_the_old_one(backup, elsewhere, tmp_path):
    assert manage(elsewhere, "restore", backup).returncode == 0
    rewrite(backup, spoil_the_database)

    done = manage(elsewhere, "restore", "--force", backup)

    assert (done.returncode, "CommandError" in done.stderr) == (1, True)
    again = manage(elsewhere, "backup", tmp_path / "b.tar")
    assert again.returncode == 0, again.stderr
    with archives.opened(tmp_path / "b.tar") as read:
        assert (read.manifest.rows["labeling_image"], read.manifest.missing) == (2, [])


@postgresql
def test_what_is_in_the_way_in_postgresql_fails_the_restore_and_not_half_of_it(
    backup, elsewhere, tmp_path
):
    in_the_way = "CREATE TYPE mood AS ENUM ('good')"
    assert manage(elsewhere, "restore", backup).returncode == 0
    assert manage(elsewhere, "dbshell", "--", "-c", in_the_way).returncode == 0
    with connection.cursor() as cursor:
        cursor.execute(in_the_way)
    try:
        call_command("backup", tmp_path / "b.tar")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TYPE mood")

    done = manage(elsewhere, "restore", "--force", tmp_path / "b.tar")

    assert (done.returncode, "psql failed" in done.stderr) == (1, True)
    assert asked(elsewhere, "SELECT count(*) FROM labeling_image") == "2"


def test_a_backup_of_an_older_version_is_migrated(elsewhere, tmp_path):
    for command in (
        ("migrate",),
        ("migrate", "workqueue", "0002"),
        ("backup", tmp_path / "old.tar"),
        ("migrate",),
        ("restore", "--force", tmp_path / "old.tar"),
    ):
        done = manage(elsewhere, *command)
        assert done.returncode == 0, done.stderr

    with archives.opened(tmp_path / "old.tar") as read:
        assert "workqueue.0003_fine_tuning" not in read.manifest.migrations
    assert manage(elsewhere, "migrate", "--check").returncode == 0


def test_a_file_that_is_cut_short_is_no_backup(backup, elsewhere):
    backup.write_bytes(backup.read_bytes()[:-20_000])

    assert "CommandError" in manage(elsewhere, "restore", backup).stderr


def test_an_installation_people_have_worked_in_is_replaced_only_by_force(backup, elsewhere):
    first = manage(elsewhere, "restore", backup)
    assert first.returncode == 0, first.stderr
    stray = Path(elsewhere["ANNOTATOR_DATA_DIR"]) / "models" / "9" / "9-9-9" / "manifest.json"
    stray.parent.mkdir(parents=True)
    stray.write_text("of a lost round")

    refused = manage(elsewhere, "restore", backup)
    assert (refused.returncode, "is not empty" in refused.stderr) == (1, True)
    assert stray.exists()

    forced = manage(elsewhere, "restore", backup, "--force")
    assert forced.returncode == 0, forced.stderr
    assert not stray.exists()


@postgresql
def test_functions_and_triggers_of_postgresql_are_replaced_too(backup, elsewhere):
    assert manage(elsewhere, "restore", backup).returncode == 0
    function = (
        "CREATE FUNCTION refuse() RETURNS trigger AS 'BEGIN RETURN NULL; END' LANGUAGE plpgsql"
    )
    with connection.cursor() as cursor:
        cursor.execute(function)
        cursor.execute(
            "CREATE TRIGGER append_only BEFORE DELETE ON labeling_annotation"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    try:
        call_command("backup", backup.with_name("b.tar"))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse CASCADE")

    for file in ("b.tar", "b.tar", "a.tar"):
        done = manage(elsewhere, "restore", "--force", backup.with_name(file))
        assert done.returncode == 0, done.stderr
    assert asked(elsewhere, "SELECT count(*) FROM pg_proc WHERE proname = 'refuse'") == "0"


def test_nothing_is_restored_while_annotator_runs(backup, elsewhere):
    data = Path(elsewhere["ANNOTATOR_DATA_DIR"])
    data.mkdir()
    with (data / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        done = manage(elsewhere, "restore", backup)

    assert (done.returncode, "is running" in done.stderr) == (1, True)


def test_a_database_somebody_works_with_is_not_replaced():
    databases.check_unused()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM labeling_project")
    try:
        with pytest.raises(databases.DatabaseToolError, match="in use"):
            databases.check_unused()
    finally:
        other.close()


def test_a_missing_or_old_program_of_postgresql_is_named_with_what_to_install(monkeypatch):
    server = SimpleNamespace(pg_version=150_004)
    monkeypatch.setattr(databases, "connection", server)
    monkeypatch.setattr(databases.shutil, "which", lambda _: None)
    with pytest.raises(databases.DatabaseToolError, match=r"not installed.*client-15"):
        databases.check_client("pg_dump")

    monkeypatch.setattr(databases.shutil, "which", lambda name: name)
    monkeypatch.setattr(databases, "_run", lambda *_: "pg_dump (PostgreSQL) 14.9 (Debian)")
    with pytest.raises(databases.DatabaseToolError, match="older than the server"):
        databases.check_client("pg_dump")

    monkeypatch.setattr(databases, "_run", lambda *_: "pg_dump (PostgreSQL) 16.1")
    databases.check_client("pg_dump")
