"""A whole Annotator, started as its users start it, that a test may do violence to."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from services import free_port

ROOT = Path(__file__).resolve().parent.parent


class Installation:
    """``bin/run`` with a folder, a database and a broker of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ANNOTATOR_")},
            "ANNOTATOR_SECRET_KEY": "for-tests-only-" * 5,
            **environment,
        }
        self._output = folder / "output.txt"
        with self._output.open("w") as written:
            self._process = subprocess.Popen(
                [
                    sys.executable, str(ROOT / "bin/run"), "--port", str(self.port),
                    "--data", str(folder),
                ],
                stdout=written,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while "Annotator is at" not in self._output.read_text():
            assert self._process.poll() is None, self._output.read_text()
            assert time.monotonic() < deadline, self._output.read_text()
            time.sleep(0.2)

    def kill(self, child: str) -> None:
        """Kill the main process of ``web``, ``worker-fast`` or ``worker-learning``."""
        os.kill(int((self.folder / "logs" / f"{child}.pid").read_text()), signal.SIGKILL)

    def kill_embedded_broker(self) -> None:
        """Lose all messages with the folder they are in."""
        shutil.rmtree(self.folder / "broker", ignore_errors=True)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=30)

    def ask(self, *command: str | int) -> dict:
        """Let ``seed_kit`` do something in a process of its own."""
        done = subprocess.run(
            [sys.executable, "tests/seed_kit.py", *map(str, command)],
            cwd=ROOT,
            env={
                **self.environment,
                "ANNOTATOR_DATA_DIR": str(self.folder),
                "DJANGO_SETTINGS_MODULE": "annotator.settings",
                "PYTHONPATH": f"{ROOT}:{ROOT / 'queue'}:{ROOT / 'tests'}",
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def post(self, path: str, token: str, **body) -> tuple[int, dict]:
        """Send a request; status 0 when nobody answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, {"text": error.read().decode(errors="replace")}
        except (OSError, ValueError, http.client.HTTPException):
            return 0, {}
