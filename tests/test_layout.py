import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APP_NAMES = (
    "accounts",
    "api",
    "events",
    "exports",
    "ingest",
    "jobs",
    "labeling",
    "operations",
    "webhooks",
)
APPS = [
    *(ROOT / "annotator" / name for name in APP_NAMES),
    ROOT / "queue" / "workqueue",
]
WRITERS = {
    "services.py", "requests.py", "rounds.py", "embedding.py", "replays.py", "housekeeping.py",
    "rankings.py", "overlap.py", "restoring.py", "running.py", "self_test.py", "simulation.py",
    "fetching.py", "outbox.py", "delivering.py", "writing.py",
}  # fmt: skip
WRITES = {
    "save", "create", "update", "delete", "bulk_create", "bulk_update", "get_or_create",
    "update_or_create", "executemany",
}  # fmt: skip


def test_queue_is_no_package_because_that_would_hide_the_standard_librarys():
    assert not list((ROOT / "queue").glob("*.py"))
    code = "import queue; assert queue.SimpleQueue; import queue.workqueue"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "'queue' is not a package" in done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "annotator.wsgi",
        "annotator.celery",
        "workqueue.tasks",
        "annotator.operations.management.commands.doctor",
    ],
)
def test_neither_web_process_nor_celery_parent_nor_doctor_loads_torch(module):
    code = (
        "import django, sys; django.setup(); import annotator.urls, importlib;"
        f"importlib.import_module('{module}');"
        "print([name for name in ('torch', 'onnxruntime', 'ml') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"DJANGO_SETTINGS_MODULE": "annotator.settings_test", "PATH": ""},
    )

    assert done.stdout.strip() == "[]", done.stderr


def _writes(tree):
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        target = ast.unparse(node.func.value)
        is_query = ".objects" in target or "_default_manager" in target or ".filter(" in target
        if node.func.attr in WRITES and is_query:
            yield f"line {node.lineno}: {target}.{node.func.attr}"


def test_the_database_is_written_only_in_services_and_background_work():
    offences = []
    for app in APPS:
        for path in app.rglob("*.py"):
            if path.name in WRITERS or {"migrations", "services"} & set(path.parts):
                continue
            found = _writes(ast.parse(path.read_text()))
            offences += [f"{path.relative_to(ROOT)} {entry}" for entry in found]

    assert offences == []


def test_environment_variables_are_read_in_one_place_only():
    readers = [
        path.relative_to(ROOT).as_posix()
        for folder in ("annotator", "queue", "ml")
        for path in (ROOT / folder).rglob("*.py")
        if "os.environ" in path.read_text() and path.name != "environment.py"
    ]

    assert set(readers) <= {
        "annotator/celery.py",
        "annotator/wsgi.py",
        "annotator/settings_test.py",
    }


NETWORK = {
    "socket", "ssl", "http.client", "urllib.request", "ftplib", "smtplib", "telnetlib", "requests",
    "httpx", "httpcore", "urllib3", "aiohttp", "websockets", "boto3", "botocore",
}  # fmt: skip


def _imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (entry.name for entry in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{entry.name}" for entry in node.names)


def test_connections_are_opened_in_one_place_only():
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in ("annotator", "queue", "ml")
        for path in (ROOT / folder).rglob("*.py")
        if not NETWORK.isdisjoint(_imported(ast.parse(path.read_text())))
    }

    assert users == {"annotator/outbound/addresses.py", "annotator/outbound/client.py"}


def test_nothing_is_ever_unpickled():
    for folder in ("annotator", "queue", "ml", "benchmarks", "client"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            for word in ("import pickle", "joblib", "marshal.", "yaml.load(", "allow_pickle=True"):
                assert word not in text, path
            if "torch.load" in text:
                assert "weights_only=True" in text, path


def test_pages_hold_no_inline_script_and_no_inline_style():
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()
        assert ' style="' not in text, path
        assert " onclick=" not in text, path
        assert "<script>" not in text, path


def test_modules_are_imported_so_that_their_names_can_be_hashed():
    for path in (ROOT / "static" / "js").rglob("*.js"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith(("import ", "} from ")) and ("./" in line or "../" in line):
                assert line.endswith('.js";'), f"{path}:{number}"


def test_every_text_of_the_project_speaks_of_the_product_alone():
    machine = ("/" + "work/", "/" + "root/", "/opt/" + "pypi")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".html", ".js", ".css", ".toml", ".yml", ".txt", ""}:
            text = path.read_text(errors="replace") if path.is_file() else ""
            assert not any(word in text for word in machine), name
