"""Annotator, started by bin/run, through its API."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.against_label_studio import tools
from benchmarks.against_label_studio.client import OK, Client
from benchmarks.against_label_studio.tools import Item, Person, Tool
from benchmarks.queue_load.installation import ROOT, Installation, Postgres, Redis

API = "/api/v1/projects/"
QUIET_S = 240.0
LOOK_S = 0.05
ROUND_OVER = {"done", "failed"}


class Annotator(Tool):
    """The product of this repository."""

    name = "Annotator"

    def __init__(self, port: int, token: str, classes: Sequence[str]) -> None:
        super().__init__()
        self._port = port
        self._lead = self._client(token)
        project = self._must(
            "POST",
            API,
            {"name": "Work", "classes": [{"name": name} for name in classes]},
        )
        self._path = f"{API}{project['id']}/"
        self._classes = {entry["name"]: entry["id"] for entry in project["classes"]}
        self._ids: dict[str, int] = {}
        self._people: list[Person] = []

    def _client(self, token: str) -> Client:
        return Client(self._port, f"Bearer {token}", self.calls)

    def _must(self, method: str, path: str, body: Any = None, op: str = "") -> Any:
        return self._lead.must(self._lead.ask(op, method, path, body))

    def add(self, files: Sequence[Path]) -> None:
        path = f"{self._path}images/"
        answer = self._lead.must(self._lead.upload(tools.IMPORT, path, files, "file"))
        for entry in answer["results"]:
            if entry["image"] is None:
                raise SystemExit(f"{entry['file_name']} was refused: {entry['reason']}")
            self._ids[entry["file_name"]] = entry["image"]["id"]

    def settle(self) -> None:
        deadline = time.monotonic() + QUIET_S
        while not is_quiet(self._status()):
            if time.monotonic() > deadline:
                raise SystemExit(f"background work does not end: {self._status()}")
            time.sleep(LOOK_S)

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = self._must("GET", f"{self._path}queue/status/")
        return found

    def pages(self) -> Iterator[int]:
        path: str | None = f"{self._path}images/?limit={tools.PAGE}"
        while path:
            page = self._must("GET", path, op=tools.LIST)
            yield len(page["results"])
            following = urlsplit(page["next"] or "")
            path = f"{following.path}?{following.query}" if page["next"] else None

    def predict(self, said: dict[str, list[float]]) -> None:
        entries = [
            {"image": self._ids[name], "probabilities": values} for name, values in said.items()
        ]
        body = {
            "model": tools.MODEL,
            "class_ids": list(self._classes.values()),
            "predictions": entries,
        }
        self._must("PUT", f"{self._path}predictions/", body, op=tools.PREDICT)
        # The order Label Studio has: by the largest probability, nothing drawn at random.
        changes = {
            "predictions_from": tools.MODEL,
            "heuristic": "least_confidence",
            "exploration_share": 0,
            "spread_duplicates": False,
        }
        self._must("PATCH", f"{self._path}queue/settings/", changes)
        self._lead.ask("", "POST", f"{self._path}rounds/")
        deadline = time.monotonic() + QUIET_S
        while not follows_predictions(self._status()):
            if time.monotonic() > deadline:
                raise SystemExit(f"the predictions do not drive the order: {self._status()}")
            time.sleep(LOOK_S)

    def people(self, n: int) -> list[Person]:
        for number in range(len(self._people), n):
            body = {"name": f"annotator {number}", "scope": "annotate"}
            token = self._must("POST", f"{self._path}tokens/", body)["token"]
            self._people.append(OurPerson(self._client(token), self._path, self._classes))
        return self._people[:n]


class OurPerson(Person):
    """Somebody who labels in Annotator."""

    def __init__(self, client: Client, path: str, classes: dict[str, int]) -> None:
        self._client, self._path, self._classes = client, path, classes

    def next(self) -> Item | None:
        answer = self._client.ask(tools.NEXT, "POST", f"{self._path}queue/claim/", {"n": 1})
        if answer.status not in OK or not answer.body["leases"]:
            return None
        lease = answer.body["leases"][0]
        return Item(lease["image"]["file_name"], lease["token"])

    def submit(self, item: Item, class_name: str) -> bool:
        body = {"lease": item.handle, "class_ids": [self._classes[class_name]], "seconds": 1}
        answer = self._client.ask(tools.SUBMIT, "POST", f"{self._path}queue/submit/", body)
        return answer.status in OK


def is_quiet(status: dict[str, Any]) -> bool:
    """Whether every image is embedded and no round is due or under way."""
    seen = status["n_embedded"] + status["n_embedding_failures"]
    newest = status["round"]
    return (
        seen >= status["n_images"]
        and status["labels_until_round"] > 0
        and (newest is None or newest["state"] in ROUND_OVER)
    )


def follows_predictions(status: dict[str, Any]) -> bool:
    """Whether what is served follows the posted predictions, in the order wanted."""
    ranking = status["ranking"]
    return bool(
        ranking
        and ranking["external_model"] == tools.MODEL
        and ranking["heuristic"] == "least_confidence"
    )


@contextmanager
def running(database: str, folder: Path, classes: Sequence[str]) -> Iterator[Annotator]:
    """Give a running Annotator.

    Args:
        database: ``sqlite`` or ``postgresql``, then with Redis as its installation has it.
        folder: for its data.
        classes: of its project.
    """
    folder.mkdir()
    environment = {"ANNOTATOR_SECRET_KEY": uuid.uuid4().hex * 2}
    servers: list[Any] = []
    try:
        if database == "postgresql":
            servers += [Postgres(is_durable=True), Redis()]
            environment["ANNOTATOR_DATABASE_URL"] = servers[0].url
            environment["ANNOTATOR_BROKER_URL"] = servers[1].url
        installation = Installation(folder, environment)
        try:
            installation.start()
            yield Annotator(installation.port, _token(folder, environment), classes)
        finally:
            installation.stop()
    finally:
        for server in reversed(servers):
            server.stop()


def _token(folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bin/run"), "--data", str(folder),
         "manage", "create_token", "admin"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1]
