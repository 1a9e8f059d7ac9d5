import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import environment
import pytest
import supervisor
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent

_loader = SourceFileLoader("annotator_run", str(ROOT / "bin" / "run"))
run = module_from_spec(spec_from_loader("annotator_run", _loader))
_loader.exec_module(run)


def test_an_installed_lock_file_is_installed_again_only_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path)
    lock, done = tmp_path / "x.lock", []
    lock.write_text("a==1")

    for _ in range(2):
        environment._ensure("x.lock", lambda: done.append(lock.read_text()))
    lock.write_text("a==2")
    environment._ensure("x.lock", lambda: done.append(lock.read_text()))

    assert done == ["a==1", "a==2"]


def test_an_installation_that_failed_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path)
    (tmp_path / "x.lock").write_text("a==1")

    def fail():
        raise environment.SetupError("no network")

    for _ in range(2):
        with pytest.raises(environment.SetupError):
            environment._ensure("x.lock", fail)


@pytest.mark.parametrize(
    ("has_gpu", "system", "kind"),
    [(False, "Linux", "cpu"), (True, "Linux", "cuda"), (False, "Darwin", "default")],
)
def test_the_build_of_torch_suits_the_machine(has_gpu, system, kind):
    assert environment.torch_kind(has_gpu=has_gpu, system=system) == kind


def test_a_taken_port_is_refused_and_a_free_one_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(environment.SetupError, match=rf"Port {port} is in use.*--port \d+"):
            run.check_port("127.0.0.1", port)


@pytest.mark.parametrize(
    ("arguments", "data", "command"),
    [
        (["--data", "d", "manage", "create_token", "admin"], "d", ["create_token", "admin"]),
        (["manage", "--data", "d", "create_token", "admin"], "d", ["create_token", "admin"]),
        (["manage", "simulate", "--data", "x"], "var", ["simulate", "--data", "x"]),
        (["--data", "manage", "--port", "1"], "manage", None),
    ],
)
def test_a_command_runs_on_the_data_that_was_named(arguments, data, command, monkeypatch):
    monkeypatch.delenv("ANNOTATOR_DATA_DIR", raising=False)

    options = run.parse(arguments)

    assert (options.data.name, options.manage) == (data, command)


def test_the_help_names_the_management_commands(capsys):
    with pytest.raises(SystemExit):
        run.parse(["--help"])

    assert "bin/run [--data DIR] manage COMMAND" in capsys.readouterr().out


def test_a_command_where_nothing_was_set_up_says_what_to_do_and_makes_nothing(tmp_path):
    data = tmp_path / "data"
    command = [sys.executable, str(ROOT / "bin/run"), "--data", str(data), "manage"]
    plain = {key: value for key, value in os.environ.items() if key != "ANNOTATOR_DATABASE_URL"}

    done = subprocess.run(
        [*command, "create_token", "admin"], capture_output=True, text=True, env=plain
    )

    assert done.returncode == 1
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1
    assert "Start bin/run once" in done.stdout
    assert not data.exists()


def test_a_second_start_on_the_same_data_is_refused(tmp_path):
    lock = run.lock_data(tmp_path / "data")

    with pytest.raises(environment.SetupError, match="running already"):
        run.lock_data(tmp_path / "data")

    del lock


def test_the_secret_key_is_made_once_and_readable_by_its_owner_only(tmp_path):
    first = run.secret_key(tmp_path)

    assert run.secret_key(tmp_path) == first
    assert len(first) >= 50
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def child(tmp_path, *command):
    return supervisor.Child("child", list(command), tmp_path / "child.log", dict(os.environ))


def test_a_child_that_dies_is_started_again_after_a_growing_pause(tmp_path):
    now, said = [100.0], []
    dying = child(tmp_path, sys.executable, "-c", "raise SystemExit(3)")
    watcher = supervisor.Supervisor([dying], said.append, clock=lambda: now[0])
    dying.start(now[0])

    pauses = []
    for _ in range(3):
        dying.process.wait(timeout=10)
        watcher.look_once()
        pauses.append(dying.start_again_at - now[0])
        watcher.look_once()
        assert dying.process is None
        now[0] = dying.start_again_at
        watcher.look_once()
        assert dying.process is not None
    dying.process.wait(timeout=10)

    assert pauses == [0.5, 1, 2]
    assert "status 3" in said[0]


def test_stopping_ends_children_and_grandchildren(tmp_path):
    code = (
        "import subprocess, sys, time;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    parent = child(tmp_path, sys.executable, "-c", code)
    watcher = supervisor.Supervisor([parent], lambda _: None)
    parent.start(0.0)
    deadline = time.monotonic() + 10
    while not parent.log.read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.05)
    grandchild = int(parent.log.read_text())

    watcher.stop()

    assert parent.process.poll() is not None
    time.sleep(0.2)
    state = Path(f"/proc/{grandchild}/stat")
    assert not state.exists() or " Z " in state.read_text()


def test_the_settings_refuse_to_start_without_a_secret_key():
    for key in ("", "short", "x" * 49):
        done = subprocess.run(
            [sys.executable, "manage.py", "check"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "ANNOTATOR_SECRET_KEY": key},
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        assert "ANNOTATOR_SECRET_KEY must hold" in done.stderr


def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_service_has_a_health_check_a_user_and_no_secret_with_a_default():
    for name, service in compose()["services"].items():
        assert "healthcheck" in service, name
        assert service["user"] not in {"root", "0"}, name
        for key, value in service.get("environment", {}).items():
            if "SECRET_KEY" in key or "PASSWORD" in key or "DATABASE_URL" in key:
                assert ":?" in value, (name, key)


def test_every_queue_has_a_worker_in_compose_and_under_the_supervisor(tmp_path):
    from django.conf import settings

    wanted = set(settings.QUEUES)
    in_compose = " ".join(str(s.get("command", "")) for s in compose()["services"].values())
    options = run.parse(["--data", str(tmp_path)])
    supervised = " ".join(" ".join(c.command) for c in run.children(options, {}))

    for text in (in_compose, supervised):
        listened = {queue for part in text.split("-Q ")[1:] for queue in part.split()[0].split(",")}
        assert listened == wanted


@pytest.mark.parametrize(("command", "status"), [("restore", 0), ("backup", 1)])
def test_only_a_restore_needs_no_installation_to_be_there(command, status, tmp_path, monkeypatch):
    monkeypatch.delenv("ANNOTATOR_DATABASE_URL", raising=False)
    monkeypatch.setattr(run, "ensure_packages", lambda: None)
    monkeypatch.setattr(run, "run_command", lambda *_: 0)
    monkeypatch.setattr(sys, "argv", ["run", "--data", str(tmp_path), "manage", command, "a.tar"])

    assert run.main() == status


@pytest.mark.redis
def test_production_settings_serve_pages_and_run_jobs_on_postgresql_and_redis(tmp_path):
    database = os.environ["ANNOTATOR_TEST_POSTGRES_URL"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bin/run"), "--port", str(port), "--data", str(tmp_path)],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("ANNOTATOR_")},
            "ANNOTATOR_DATABASE_URL": database,
            "ANNOTATOR_BROKER_URL": os.environ["ANNOTATOR_TEST_REDIS_URL"],
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 110
        answer = ""
        while time.monotonic() < deadline and '"ready"' not in answer:
            time.sleep(1)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    continue
            import urllib.request

            url = f"http://127.0.0.1:{port}/health/ready"
            # A slow machine still starts: nothing is said until it answers.
            with suppress(OSError), urllib.request.urlopen(url, timeout=5) as opened:
                answer = opened.read().decode()
        assert '"queues_without_worker": []' in answer
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
