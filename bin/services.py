"""Throw-away PostgreSQL and Redis servers for tests. Stdlib only."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

STARTUP_S = 30.0
STOP_S = 60.0


class NotAvailableError(Exception):
    """The server's programs are not on this machine."""


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until somebody listens.

    Raises:
        NotAvailableError: nobody does in time.
    """
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise NotAvailableError(f"nothing answers on port {port} after {STARTUP_S:.0f} s")


def _as_postgres() -> list[str]:
    """Return how to run a program as somebody PostgreSQL accepts: it refuses root."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError as error:
        raise NotAvailableError("PostgreSQL refuses root and there is no user postgres") from error
    return ["runuser", "-u", "postgres", "--"]


class Postgres:
    """A PostgreSQL server with data in a temporary folder."""

    def __init__(self, *, is_durable: bool = False, copy_of: Path | None = None) -> None:
        """Start it.

        Args:
            is_durable: whether a commit waits for the disk, as in production.
            copy_of: data that ``save`` wrote, to begin with.

        Raises:
            NotAvailableError: it is not installed.
        """
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        programs = found[-1].parent if found else None
        if programs is None and (initdb := shutil.which("initdb")):
            programs = Path(initdb).parent
        if programs is None:
            raise NotAvailableError("PostgreSQL is not installed")
        user = _as_postgres()
        self._folder = Path(tempfile.mkdtemp(prefix="annotator-postgres-"))
        if user:
            shutil.chown(self._folder, "postgres")
        self.port = free_port()
        self._data = self._folder / "data"
        initdb_command = [
            *user, str(programs / "initdb"), "-D", str(self._data), "-U", "annotator",
            "--auth=trust", "-E", "UTF8", "--no-sync",
        ]  # fmt: skip
        if copy_of:
            _copy(copy_of, self._data)
        else:
            subprocess.run(initdb_command, check=True, capture_output=True, cwd="/")
        self._command = [
            *user, str(programs / "postgres"), "-D", str(self._data), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._data}",
            "-c", f"fsync={'on' if is_durable else 'off'}",
        ]  # fmt: skip
        self.start()
        self.url = f"postgres://annotator@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server on its data."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        wait_for_port(self.port)

    def kill(self) -> None:
        """Kill the server and all its processes, as a crash would."""
        server = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        for pid in [server, *_children_of(server)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=20)

    def save(self, folder: Path) -> None:
        """Copy the data into a new folder; the server is stopped meanwhile."""
        self._end()
        _copy(self._data, folder)
        self.start()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        # What ran it as another user may end sooner.
        deadline = time.monotonic() + STOP_S
        while (self._data / "postmaster.pid").exists() and time.monotonic() < deadline:
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it and delete its data."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    # Owner and mode too: PostgreSQL insists on them. A copy that failed is no copy.
    building = target.with_name(f".{target.name}")
    shutil.rmtree(building, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(building)], check=True)
    building.rename(target)


def _children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout
    return [int(line) for line in listed.split()]


class Redis:
    """A Redis server that keeps nothing."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            NotAvailableError: it is not installed.
        """
        program = shutil.which("redis-server")
        if program is None:
            raise NotAvailableError("Redis is not installed")
        self.port = free_port()
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.start()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, empty."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir()
        )
        wait_for_port(self.port)

    def kill(self) -> None:
        """Kill it; all messages are lost."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(timeout=20)
