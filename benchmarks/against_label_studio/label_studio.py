"""Label Studio, started as its documentation says, through its API."""

import http.cookiejar
import json
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from benchmarks.against_label_studio import tools
from benchmarks.against_label_studio.client import OK, Client
from benchmarks.against_label_studio.installing import Program
from benchmarks.against_label_studio.tools import Item, Person, Tool
from benchmarks.queue_load.installation import START_S, STOP_S, Postgres, free_port

# Nothing that waits for a server outside: this machine may be alone.
QUIET_SETTINGS = {
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}
KEPT_OF_OURS = ("PATH", "HOME", "LANG", "TMPDIR")


class LabelStudio(Tool):
    """The peer."""

    name = "Label Studio"

    def __init__(self, port: int, token: str, classes: Sequence[str]) -> None:
        super().__init__()
        self._port, self._classes = port, classes
        self._owner = self._client(token)
        body = {
            "title": "Work",
            "label_config": label_config(classes),
            "sampling": "Uncertainty sampling",
        }
        project = self._must("POST", "/api/projects/", body)
        self._project = int(project["id"])
        self._path = f"/api/projects/{self._project}/"
        self._names: dict[int, str] = {}
        self._people: list[Person] = []

    def _client(self, token: str) -> Client:
        return Client(self._port, f"Token {token}", self.calls)

    def _must(self, method: str, path: str, body: Any = None, op: str = "", **more: float) -> Any:
        return self._owner.must(self._owner.ask(op, method, path, body, **more))

    def add(self, files: Sequence[Path]) -> None:
        # Of several files in one field it takes the last only.
        answer = self._owner.must(self._owner.upload(tools.IMPORT, f"{self._path}import", files))
        if answer["task_count"] != len(files):
            raise SystemExit(f"{answer['task_count']} of {len(files)} pictures became tasks")

    def settle(self) -> None:
        """Without Redis it does all work inside the request."""

    def pages(self) -> Iterator[int]:
        seen, number, total = 0, 0, 1
        while seen < total:
            number += 1
            query = f"project={self._project}&page={number}&page_size={tools.PAGE}"
            answer = self._must("GET", f"/api/tasks/?{query}", op=tools.LIST)
            found, total = answer["tasks"], answer["total"]
            self._names.update((task["id"], file_name(task["data"]["image"])) for task in found)
            seen += len(found)
            yield len(found)

    def predict(self, said: dict[str, list[float]]) -> None:
        ids = {name: pk for pk, name in self._names.items()}
        body = [
            {
                "task": ids[name],
                "result": [_choice(self._classes[values.index(max(values))])],
                "score": max(values),
                "model_version": tools.MODEL,
            }
            for name, values in said.items()
        ]
        self._must("POST", f"{self._path}import/predictions", body, op=tools.PREDICT, limit=200)
        self._must("PATCH", self._path, {"model_version": tools.MODEL})

    def people(self, n: int) -> list[Person]:
        for number in range(len(self._people), n):
            token = signed_up(self._port, f"annotator{number}@example.com")
            self._people.append(TheirPerson(self._client(token), self._path, self._names))
        return self._people[:n]


class TheirPerson(Person):
    """Somebody who labels in Label Studio."""

    def __init__(self, client: Client, path: str, names: dict[int, str]) -> None:
        self._client, self._path, self._names = client, path, names

    def next(self) -> Item | None:
        answer = self._client.ask(tools.NEXT, "GET", f"{self._path}next/")
        if answer.status not in OK:
            return None
        return Item(self._names[answer.body["id"]], str(answer.body["id"]))

    def submit(self, item: Item, class_name: str) -> bool:
        body = {"result": [_choice(class_name)], "lead_time": 1}
        path = f"/api/tasks/{item.handle}/annotations/"
        return self._client.ask(tools.SUBMIT, "POST", path, body).status in OK


def label_config(classes: Sequence[str]) -> str:
    """Return the labeling interface of one class an image."""
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<Choices name="choice" toName="image" choice="single">{choices}</Choices></View>'
    )


def _choice(class_name: str) -> dict[str, Any]:
    return {
        "from_name": "choice",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [class_name]},
    }


def file_name(address: str) -> str:
    """Return the name a file had before its upload put a random part in front of it."""
    return address.rsplit("/", 1)[-1].partition("-")[2]


def signed_up(port: int, email: str) -> str:
    """Let somebody sign up on the page for it, and return their token."""
    site = f"http://127.0.0.1:{port}"
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser.open(f"{site}/user/signup/").close()
    form = {
        "email": email,
        "password": secrets.token_urlsafe(20),
        "csrfmiddlewaretoken": next(c.value or "" for c in jar if c.name == "csrftoken"),
    }
    sent = urllib.parse.urlencode(form).encode()
    browser.open(f"{site}/user/signup/", sent).close()
    with browser.open(f"{site}/api/current-user/token") as answer:
        return str(json.load(answer)["token"])


@contextmanager
def running(
    program: Program, database: str, folder: Path, classes: Sequence[str]
) -> Iterator[LabelStudio]:
    """Give a running Label Studio.

    Args:
        program: which one.
        database: ``sqlite`` or ``postgresql``.
        folder: for its data.
        classes: of its project.
    """
    folder.mkdir()
    port, token = int(free_port()), secrets.token_hex(20)
    environment = {
        **{name: os.environ[name] for name in KEPT_OF_OURS if name in os.environ},
        **QUIET_SETTINGS,
        "LABEL_STUDIO_USERNAME": "owner@example.com",
        "LABEL_STUDIO_PASSWORD": secrets.token_urlsafe(20),
        "LABEL_STUDIO_USER_TOKEN": token,
    }
    server = Postgres(is_durable=True) if database == "postgresql" else None
    try:
        if server:
            environment |= postgres_settings(server.url)
        with _started(program, port, folder, environment):
            yield LabelStudio(port, token, classes)
    finally:
        if server:
            server.stop()


def postgres_settings(url: str) -> dict[str, str]:
    """Return its environment variables for a database address."""
    parts = urllib.parse.urlsplit(url)
    return {
        "DJANGO_DB": "default",
        "POSTGRE_NAME": parts.path.lstrip("/"),
        "POSTGRE_USER": parts.username or "",
        "POSTGRE_PASSWORD": parts.password or "",
        "POSTGRE_HOST": parts.hostname or "",
        "POSTGRE_PORT": str(parts.port or ""),
    }


@contextmanager
def _started(
    program: Program, port: int, folder: Path, environment: dict[str, str]
) -> Iterator[None]:
    output = folder / "output.txt"
    with output.open("wb") as written:
        process = subprocess.Popen(
            [str(program.file), "start", "--no-browser", "--enable-legacy-api-token",
             "--data-dir", str(folder / "data"), "--internal-host", "127.0.0.1",
             "--port", str(port)],
            stdout=written, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
            cwd=folder,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("Label Studio does not start:\n" + output.read_text()[-2000:])
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(timeout=STOP_S)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/", timeout=10):
            return True
    except (OSError, urllib.error.URLError):
        return False
