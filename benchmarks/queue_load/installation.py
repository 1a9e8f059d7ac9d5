"""A whole Annotator as bin/run starts it, on the stock's files and a database of its own."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.queue_load.stock import Stock

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bin"))
from services import Postgres, Redis, free_port  # type: ignore[import-not-found]  # noqa: E402

__all__ = [
    "ROOT", "START_S", "STOP_S", "Installation", "Postgres", "Redis", "free_port", "installed",
]  # fmt: skip

START_S = 240.0
STOP_S = 60.0


class Installation:
    """bin/run with web server and workers, and Django in this process on the same database."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.port = folder, int(free_port())
        self._environment = {
            **{name: text for name, text in os.environ.items() if name != "ANNOTATOR_LOG_LEVEL"},
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, waits_for_workers: bool = True) -> None:
        """Start it and wait until the web server answers and every worker has done something.

        Raises:
            SystemExit: it does not come up.
        """
        output = self.folder / "output.txt"
        with output.open("wb") as written:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "bin/run"), "--port", str(self.port),
                 "--data", str(self.folder)],
                stdout=written, stderr=subprocess.STDOUT, env=self._environment,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while "Annotator is at" not in output.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("bin/run does not start:\n" + output.read_text())
            time.sleep(0.2)
        while waits_for_workers and not self._workers_answer():
            if time.monotonic() > deadline:
                raise SystemExit(f"the workers do not answer; see {self.folder / 'logs'}")
            time.sleep(0.5)

    def _workers_answer(self) -> bool:
        address = f"http://127.0.0.1:{self.port}/health/ready?workers=1"
        try:
            with urllib.request.urlopen(address, timeout=10):
                return True
        except urllib.error.HTTPError:
            return False

    def stop(self) -> None:
        """Stop everything."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=STOP_S)

    @property
    def logs(self) -> dict[str, str]:
        """What web server and workers have written so far, by name."""
        return {
            path.stem: path.read_text(errors="replace")
            for path in sorted((self.folder / "logs").glob("*.log"))
        }

    def pids(self, child: str) -> list[int]:
        """Return the processes of ``web``, ``worker-fast`` or ``worker-learning``."""
        main = int((self.folder / "logs" / f"{child}.pid").read_text())
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--sid", str(main)], capture_output=True, text=True
        )
        return [int(line) for line in listed.stdout.split()]


@contextmanager
def installed(
    stock: Stock, database: str, *, cache: Path | None, waits_for_workers: bool = True
) -> Iterator[Installation]:
    """Give a running installation whose database holds the stock's rows.

    Args:
        stock: what is in it.
        database: ``sqlite`` or ``postgresql``.
        cache: where the filled database is kept for the next time, if anywhere.
        waits_for_workers: until they are warm, so that nothing but the load is measured.
    """
    folder = Path(tempfile.mkdtemp(prefix="annotator-load-"))
    servers: list[Any] = []
    environment = {
        "ANNOTATOR_DATA_DIR": str(folder),
        "ANNOTATOR_SECRET_KEY": secrets.token_urlsafe(64),
        "DJANGO_SETTINGS_MODULE": "annotator.settings",
    }
    saved = cache / f"{database}-{stock.name}" if cache else None
    is_saved = bool(saved and saved.exists())
    try:
        if database == "postgresql":
            servers += [Postgres(is_durable=True, copy_of=saved if is_saved else None), Redis()]
            environment["ANNOTATOR_DATABASE_URL"] = servers[0].url
            environment["ANNOTATOR_BROKER_URL"] = servers[1].url
        elif saved and is_saved:
            shutil.copyfile(saved, folder / "annotator.sqlite3")
        _lay_out(stock, folder)
        _set_up_django(environment)
        if not is_saved:
            _fill(stock)
        if saved and not is_saved:
            _save(database, servers, folder, saved)
        running = Installation(folder, environment)
        try:
            running.start(waits_for_workers=waits_for_workers)
            yield running
        finally:
            running.stop()
    finally:
        _close_connections()
        for server in reversed(servers):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _lay_out(stock: Stock, folder: Path) -> None:
    """Let the data folder see the stock: a link to the pictures, embeddings of its own."""
    (folder / "media").symlink_to(stock.media)
    (folder / "embeddings").mkdir()
    for entry in stock.segments():
        _link(stock.embeddings / entry["name"], folder / "embeddings" / entry["name"])
    backbones = stock.folder / "backbones"
    backbones.mkdir(exist_ok=True)
    (folder / "backbones").symlink_to(backbones)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another file system.
        shutil.copyfile(source, target)


def _set_up_django(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    # Of this process only: the installation's own logs are read by the audit.
    os.environ["ANNOTATOR_LOG_LEVEL"] = "ERROR"
    import django

    django.setup()


def _fill(stock: Stock) -> None:
    from django.core.management import call_command

    from benchmarks.queue_load import rows

    call_command("migrate", verbosity=0)
    call_command("createcachetable")
    rows.seed(stock)


def _save(database: str, servers: list[Any], folder: Path, saved: Path) -> None:
    _close_connections()
    if database == "postgresql":
        servers[0].save(saved)
    else:
        # The last connection has closed, so that the file holds everything.
        shutil.copyfile(folder / "annotator.sqlite3", saved)


def _close_connections() -> None:
    from django.db import connections

    connections.close_all()
