import hashlib
import json
import os
import subprocess
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from factories import class_of, make_images, make_label, make_member, make_project, now, store_files
from kombu import Connection

from annotator.events import history
from annotator.events.models import Event
from annotator.jobs import services as jobs
from annotator.labeling.models import Image
from annotator.operations import checks, databases, doctor
from ml import embedding_store
from workqueue import self_test, services
from workqueue.learning import store
from workqueue.models import ModelVersion, Segment
from workqueue.services import leases

pytestmark = pytest.mark.django_db(transaction=True)

sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="for SQLite")


def status_of(name):
    return doctor.examine(name).status


@pytest.fixture
def production_mode():
    """What the tests switch off for speed is on, as in production."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=FULL")
    yield
    connection.close()


# --- Database ---------------------------------------------------------------------------------


@sqlite
def test_the_shipped_mode_of_sqlite_is_ok(production_mode):
    assert doctor.examine("database").text.endswith("every answered label is on disk")


@sqlite
@pytest.mark.parametrize(
    ("pragma", "harm"),
    [
        ("synchronous=OFF", "may not survive a power cut"),
        ("foreign_keys=OFF", "rows may point nowhere"),
        ("journal_mode=MEMORY", "people wait for each other"),
    ],
)
def test_a_weaker_mode_of_sqlite_has_failed_and_says_what_it_costs(production_mode, pragma, harm):
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {pragma}")

    line = doctor.examine("database")

    assert (line.status, harm in line.text, bool(line.mend)) == ("failed", True, True)


@sqlite
def test_deferred_transactions_have_failed(production_mode, monkeypatch):
    monkeypatch.setattr(connection, "transaction_mode", None)

    assert "not IMMEDIATE" in doctor.examine("database").text


@pytest.mark.parametrize(
    ("name", "value", "harm"),
    [
        ("synchronous_commit", "off", "may not survive a power cut"),
        ("fsync", "off", "may not survive a power cut"),
        ("transaction_isolation", "serializable", "labels fail under load"),
    ],
)
def test_a_weaker_mode_of_postgresql_has_failed_and_says_what_it_costs(name, value, harm):
    shown = {"synchronous_commit": "on", "fsync": "on", "transaction_isolation": "read committed"}

    assert checks.postgresql_faults(shown) == []
    (fault,) = checks.postgresql_faults(shown | {name: value})
    assert fault.startswith(f"{name} is {value}: ")
    assert harm in fault


@pytest.mark.skipif(connection.vendor != "postgresql", reason="for PostgreSQL")
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("synchronous_commit TO off", "synchronous_commit is off"),
        ("default_transaction_isolation TO serializable", "transaction_isolation is serializable"),
    ],
)
def test_the_mode_of_postgresql_is_read_from_the_server(setting, named):
    assert named not in doctor.examine("database").text
    with connection.cursor() as cursor:
        cursor.execute(f"SET {setting}")

    line = doctor.examine("database")
    connection.close()

    assert (line.status, named in line.text) == ("failed", True)


def test_a_database_that_is_too_old_or_away_has_failed_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(connection.features, "minimum_database_version", (99,))
    line = doctor.examine("database")
    assert (line.status, line.mend) == ("failed", "Upgrade the database server.")

    def refuse():
        raise OperationalError("connection refused")

    connection.close()
    monkeypatch.setattr(connection, "connect", refuse)
    line = doctor.examine("database")
    assert (line.status, "ANNOTATOR_DATABASE_URL" in line.mend) == ("failed", True)


def test_migrations_that_wait_have_failed_and_the_command_is_named():
    recorder = MigrationRecorder(connection)
    ((app, newest),) = MigrationLoader(connection).graph.leaf_nodes("workqueue")
    assert status_of("migrations") == "ok"

    recorder.record_unapplied(app, newest)
    try:
        line = doctor.examine("migrations")
    finally:
        recorder.record_applied(app, newest)

    assert (line.status, line.mend) == ("failed", "Run: bin/run manage migrate")


def test_a_database_of_a_newer_version_has_failed():
    recorder = MigrationRecorder(connection)
    recorder.record_applied("workqueue", "0999_from_the_future")
    try:
        line = doctor.examine("migrations")
    finally:
        recorder.record_unapplied("workqueue", "0999_from_the_future")

    assert line.status == "failed"
    assert "workqueue.0999_from_the_future" in line.text


@pytest.fixture
def without_a_trigger():
    """Drop one trigger, as whoever has the database may."""
    assert doctor.examine("history").status == "ok"
    on_table = " ON events_event" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER events_event_no_delete{on_table}")
    yield "events_event_no_delete"
    history.protect()


def test_a_trigger_of_the_history_that_is_gone_has_failed_and_its_mend_mends(
    without_a_trigger, capsys
):
    line = doctor.examine("history")
    assert (line.status, without_a_trigger in line.text) == ("failed", True)
    assert line.mend.startswith("Run: bin/run manage protect_history")

    call_command("protect_history")

    assert capsys.readouterr().out == f"Created: {without_a_trigger}.\n"
    assert doctor.examine("history").status == "ok"
    make_project()
    with pytest.raises(IntegrityError, match="never changed or deleted"):
        Event.objects.all().delete()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="for PostgreSQL")
def test_a_trigger_of_the_history_that_is_switched_off_has_failed():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE workqueue_submission DISABLE TRIGGER USER")
    try:
        assert "workqueue_submission_no_update" in doctor.examine("history").text
    finally:
        history.protect()
    assert doctor.examine("history").status == "ok"


def test_clocks_that_agree_are_ok_and_others_have_failed(monkeypatch):
    assert status_of("clock") == "ok"

    monkeypatch.setattr(checks, "database_now", lambda: now() - timedelta(hours=1))

    assert "3600 s away" in doctor.examine("clock").text


def test_a_label_from_the_future_is_a_warning(monkeypatch):
    project = make_project()
    (image,) = make_images(project, 1)
    person, later = make_member(project), now() + timedelta(hours=1)
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda: later)
        make_label(image, person, class_of(project))

    assert "the clock was set back" in doctor.examine("clock").text
    assert status_of("clock") == "warning"


# --- Background work --------------------------------------------------------------------------


def test_a_message_goes_round_and_none_stays_behind(tmp_path, monkeypatch):
    folder = tmp_path / "messages"
    folder.mkdir()
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder)}
    options["control_folder"] = str(tmp_path / "control")
    embedded = Connection("embedded://", transport_options=options)
    monkeypatch.setattr(checks.current_app, "connection_for_write", lambda: embedded)

    assert status_of("broker") == "ok"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.redis
def test_a_message_goes_round_in_redis_and_no_key_stays_behind(monkeypatch):
    link = Connection(os.environ["ANNOTATOR_TEST_REDIS_URL"])
    monkeypatch.setattr(checks.current_app, "connection_for_write", lambda: link)

    assert status_of("broker") == "ok"
    with Connection(os.environ["ANNOTATOR_TEST_REDIS_URL"]) as looking:
        assert looking.default_channel.client.keys("doctor-*") == []


def test_a_broker_that_is_away_has_failed(monkeypatch):
    away = Connection("redis://127.0.0.1:1/0", transport_options={"max_retries": 0})
    monkeypatch.setattr(checks.current_app, "connection_for_write", lambda: away)

    line = doctor.examine("broker")

    assert line.status == "failed"
    assert "ANNOTATOR_BROKER_URL" in line.mend


def test_each_queue_must_have_been_heard_of():
    for queue in settings.QUEUES:
        jobs.note_pulse(queue=queue, now=now())
    assert status_of("workers") == "ok"

    jobs.note_pulse(queue="train", now=now() - timedelta(minutes=2))

    assert doctor.examine("workers").text == "No worker listens on: train"


# --- Files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "setting"), checks.ROOTS.items())
def test_a_folder_that_cannot_be_written_has_failed(name, setting, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, setting, tmp_path)
    assert status_of(name) == "ok"
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(settings, setting, tmp_path / "file" / "folder")

    line = doctor.examine(name)
    assert (line.status, "cannot be written" in line.text) == ("failed", True)


@pytest.mark.parametrize(
    ("free", "status"), [(1024**2, "failed"), (1024**3, "warning"), (1024**4, "ok")]
)
def test_a_disk_that_fills_up_is_said_in_time(free, status, tmp_path, monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    assert checks.room(tmp_path).status == status


def test_the_image_storage_is_tried_and_left_as_it_was(monkeypatch):
    default_storage.save("there already", ContentFile(b"x"))
    before = default_storage.listdir("")[1]
    assert status_of("image storage") == "ok"

    monkeypatch.setattr(default_storage, "open", lambda *_: ContentFile(b"other"))
    assert status_of("image storage") == "failed"

    assert default_storage.listdir("")[1] == before


@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_an_image_that_is_not_as_it_was_uploaded_has_failed(harm):
    project = make_project()
    images = make_images(project, 3)
    store_files(images)
    assert status_of("image files") == "ok"

    Image.objects.exclude(pk=images[0].pk).delete()
    default_storage.delete(images[0].original_name)
    if harm == "altered":
        default_storage.save(images[0].original_name, ContentFile(b"other"))

    assert f"{images[0].original_name} is {harm}" in doctor.examine("image files").text


def test_embeddings_that_are_not_as_they_were_written_have_failed():
    stored = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, np.ones((2, 4), np.float16))
    Segment.objects.create(
        project=make_project(), backbone="x", name=stored.name, n_rows=2, dim=4,
        sha256=stored.sha256,
    )  # fmt: skip
    assert status_of("embedding files") == "ok"

    (settings.EMBEDDINGS_ROOT / stored.name).write_bytes(b"torn")

    assert status_of("embedding files") == "failed"


def test_models_that_are_gone_have_failed():
    project = make_project()
    content = b"weights"
    folder = settings.MODELS_ROOT / f"{project.pk}/1-1-1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    ModelVersion.objects.create(
        project=project, number=1, backbone="x", class_ids=[], folder=f"{project.pk}/1-1-1",
        sha256=hashlib.sha256(content).hexdigest(), n_labels=1,
    )  # fmt: skip
    assert status_of("model files") == "ok"

    (folder / "model.safetensors").unlink()

    assert "is missing" in doctor.examine("model files").text


# --- Learning and serving ---------------------------------------------------------------------


def test_a_backbone_that_cannot_be_loaded_has_failed(monkeypatch):
    monkeypatch.setenv("ANNOTATOR_BACKBONE", "no_such_network")

    line = doctor.examine("backbone")

    assert line.status == "failed"
    assert "There is no backbone no_such_network" in line.text


def test_a_backbone_that_gives_something_else_has_failed(monkeypatch):
    given = np.ones((1, 1280), np.float16)
    monkeypatch.setattr(store, "embed_paths", lambda _: (given, [0]))
    call_command("embed_picture")

    for useless in (given[:, :5], given[:0], given * 0, given * np.nan):
        monkeypatch.setattr(store, "embed_paths", lambda _, found=useless: (found, [0]))
        with pytest.raises(CommandError, match="no usable embedding"):
            call_command("embed_picture")


@pytest.mark.slow
def test_the_shipped_backbone_embeds_a_picture():
    assert doctor.examine("backbone").text == "efficientnet_lite0: 1280 numbers per image"


def test_the_queue_is_tried_without_a_trace():
    before = databases.count_rows(connection)

    assert status_of("queue") == "ok"

    assert databases.count_rows(connection) == before


def test_a_queue_that_serves_in_another_order_has_failed_and_leaves_no_trace(monkeypatch):
    in_order = leases._best_ranked
    monkeypatch.setattr(
        leases, "_best_ranked", lambda *place, n=None: in_order(*place[:-1], 9)[::-1][: place[-1]]
    )
    before = databases.count_rows(connection)

    line = doctor.examine("queue")

    assert (line.status, "first image served" in line.text) == ("failed", True)
    assert databases.count_rows(connection) == before


@pytest.mark.parametrize("step", ["claim", "submit", "undo", "release"])
def test_a_queue_that_breaks_in_the_middle_has_failed_and_leaves_no_trace(step, monkeypatch):
    def broken(**_):
        raise RuntimeError(f"{step} is broken")

    monkeypatch.setattr(services, step, broken)
    before = databases.count_rows(connection)

    assert doctor.examine("queue").text == f"RuntimeError: {step} is broken"

    assert databases.count_rows(connection) == before


def test_the_self_test_sends_no_message(monkeypatch):
    rung = []
    monkeypatch.setattr(jobs, "ring", lambda *arguments: rung.append(arguments))

    self_test.try_queue(now=now())

    assert rung == []


# --- The command ------------------------------------------------------------------------------


@pytest.fixture
def two_checks(monkeypatch):
    """Only two checks, one of which can be broken."""

    def use(status):
        found = doctor.Finding(status, "text")
        monkeypatch.setattr(
            doctor,
            "_checks",
            {"a": doctor._Check(lambda: doctor.ok("fine"), "do this"),
             "b": doctor._Check(lambda: found, "do that")},
        )  # fmt: skip

    return use


def test_one_line_per_check_and_what_to_do_next(two_checks, capsys):
    two_checks(doctor.Status.WARNING)

    call_command("doctor")

    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert words == [["ok", "a", "fine"], ["warning", "b", "text"], ["->", "do", "that"]]


def test_a_failed_check_ends_with_status_1_and_json_says_the_same(two_checks, capsys):
    two_checks(doctor.Status.FAILED)

    with pytest.raises(SystemExit) as end:
        call_command("doctor", "--json")

    said = json.loads(capsys.readouterr().out)
    assert end.value.code == 1
    assert said["ok"] is False
    assert said["checks"][1] == {
        "name": "b", "status": "failed", "text": "text", "mend": "do that",
    }  # fmt: skip


def test_a_check_that_breaks_has_failed_and_the_others_still_run(monkeypatch):
    def time_out(*_, **__):
        raise subprocess.TimeoutExpired("python", 300)

    monkeypatch.setattr(checks.subprocess, "run", time_out)

    assert "TimeoutExpired" in doctor.examine("backbone").text
    assert status_of("queue") == "ok"
