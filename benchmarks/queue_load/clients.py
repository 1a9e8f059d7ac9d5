"""People who label in a browser, played by threads of a process of their own.

python -m benchmarks.queue_load.clients PLAN HISTORY

Each person does what the labeling page does (static/js/label/feed.js and session.js): hold six
images, download each as soon as it is leased, send the label with a new key, ask for the next
image, look at the state of the queue every two seconds, follow a new ranking, and repeat what was
not answered. Every request becomes a line of the history: who, what, when it began and ended, the
status and the answer.
"""

import http.client
import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# As in static/js/label/feed.js.
AHEAD = 5
POLL_S = 2.0
# A browser's own connections are closed by the server after two idle seconds; a newer one is safe.
IDLE_S = 1.5
# Longer than anybody may have to wait, so that it is seen.
TIMEOUT_S = 20.0
PAUSE_AFTER_ERROR_S = 0.5
PAUSE_WHEN_EMPTY_S = 0.2


@dataclass(frozen=True)
class Plan:
    """What the people of one run do.

    Attributes:
        port: of the web server on this machine.
        project: which project they label.
        classes: ids of its classes.
        sessions: one signed-in session a person.
        seconds: how long they label; with ``until_empty`` at most.
        think_s: mean of the exponential time a person looks at an image; 0: no pause at all.
        ramp_s: they come evenly over so many seconds.
        until_empty: stop when nothing is left.
        stop_file: stop as soon as this file is there.
    """

    port: int
    project: int
    classes: list[int]
    sessions: list[str]
    seconds: float
    think_s: float = 3.0
    ramp_s: float = 5.0
    until_empty: bool = False
    stop_file: str = ""
    seed: int = 0

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read a plan."""
        return cls(**json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        """Write the plan for the process of the clients."""
        path.write_text(json.dumps(asdict(self)))


@dataclass
class Answer:
    """What came back; status 0 when nothing did."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    etag: str = ""
    wait_s: float = 0.0


class Browser:
    """One signed-in session on one kept connection."""

    def __init__(self, port: int, session: str, log: Callable[[dict[str, Any]], None]) -> None:
        self._port, self._log = port, log
        token = uuid.uuid4().hex
        self._headers = {
            "Cookie": f"sessionid={session}; csrftoken={token}",
            "X-CSRFToken": token,
            "Accept": "application/json",
        }
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0

    def send(
        self,
        op: str,
        path: str,
        body: dict[str, Any] | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request, note it in the history and return the answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        payload = None if body is None else json.dumps(body).encode()
        if payload is not None:
            named["Content-Type"] = "application/json"
        started = time.monotonic()
        try:
            answer, first_byte = self._exchange(path, payload, {**self._headers, **named})
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            answer, first_byte = Answer(0, {"error": f"{type(error).__name__}: {error}"}), 0.0
        ended = time.monotonic()
        self._log(
            {"op": op, "start": started, "end": ended, "first_byte": first_byte or ended,
             "status": answer.status, "sent": body, "got": _kept(op, answer.body)}
        )  # fmt: skip
        return answer

    def _exchange(
        self, path: str, payload: bytes | None, headers: dict[str, str]
    ) -> tuple[Answer, float]:
        connection = self._open()
        connection.request("GET" if payload is None else "POST", path, payload, headers)
        response = connection.getresponse()
        first_byte = time.monotonic()
        content = response.read()
        self._used_at = time.monotonic()
        is_json = "json" in response.headers.get("Content-Type", "")
        return Answer(
            response.status,
            json.loads(content) if is_json and content else {},
            response.headers.get("ETag", ""),
            float(response.headers.get("Retry-After") or 0),
        ), first_byte

    def _open(self) -> http.client.HTTPConnection:
        if self._connection and time.monotonic() - self._used_at > IDLE_S:
            self._drop()
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=TIMEOUT_S
            )
        return self._connection

    def _drop(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


def _kept(op: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the part of an answer the audit looks at."""
    if op == "claim":
        leases = body.get("leases", [])
        return {
            "leases": [[lease["token"], lease["image"]["id"]] for lease in leases],
            "empty": (body.get("empty") or {}).get("reason"),
        }
    if op == "submit" and "annotation" in body:
        return {"annotation": body["annotation"]["id"], "image": body["image_id"]}
    return {name: body[name] for name in ("code", "detail", "error") if name in body}


class Person:
    """Somebody at the labeling page."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.history: list[dict[str, Any]] = []
        self._plan, self._number = plan, number
        self._random = random.Random(plan.seed * 10_000 + number)
        self._browser = Browser(plan.port, plan.sessions[number], self._note)
        self._client = uuid.uuid4().hex[:20]
        self._queue = f"/api/v1/projects/{plan.project}/queue/"
        self._held: list[dict[str, Any]] = []
        self._done: set[str] = set()
        self._etag = ""
        self._ranking: int | None = None
        self._is_empty = False
        self._poll_at = 0.0
        self._until = 0.0

    def _note(self, entry: dict[str, Any]) -> None:
        self.history.append({"person": self._number, **entry})

    def label(self, started: float) -> None:
        """Open the page and label until the time is up."""
        plan = self._plan
        self._until = started + plan.seconds
        time.sleep(max(0.0, started + plan.ramp_s * self._number / len(plan.sessions) - _now()))
        self._browser.send("page", f"/projects/{plan.project}/label/")
        self._poll_at = _now() + POLL_S
        self._claim()
        while not self._is_over():
            if not self._held:
                if self._is_empty and plan.until_empty:
                    break
                time.sleep(PAUSE_WHEN_EMPTY_S)
                self._claim()
                continue
            self._think()
            if not self._is_over():
                self._submit(self._held.pop(0))
                self._claim()
        self._leave()

    def _is_over(self) -> bool:
        stop = self._plan.stop_file
        return _now() >= self._until or bool(stop and Path(stop).exists())

    def _think(self) -> None:
        think_s = self._plan.think_s
        until = _now() + (self._random.expovariate(1 / think_s) if think_s else 0.0)
        while (wait := min(until, self._until) - _now()) > 0:
            time.sleep(min(wait, max(self._poll_at - _now(), 0.0)))
            if _now() >= self._poll_at:
                self._poll()
        if _now() >= self._poll_at:
            self._poll()

    def _poll(self) -> None:
        headers = {"If_None_Match": self._etag} if self._etag else {}
        answer = self._browser.send("status", f"{self._queue}status/", None, **headers)
        self._poll_at = _now() + POLL_S
        if answer.status == 200:
            self._etag = answer.etag
            self._notice(answer.body)

    def _claim(self, *, fresh: bool = False) -> None:
        keep = [lease["token"] for lease in self._held[:1]] if fresh else []
        body = {"n": AHEAD + 1, "client": self._client, "fresh": fresh, "keep": keep}
        answer = self._ask("claim", f"{self._queue}claim/", body)
        if answer.status != 200:
            return
        if fresh:
            self._held = self._held[:1]
        known = {lease["token"] for lease in self._held} | self._done
        new = [lease for lease in answer.body["leases"] if lease["token"] not in known]
        self._held += new
        self._is_empty = not answer.body["leases"] and answer.body["empty"]["reason"] == "done"
        for lease in new:
            self._browser.send("image", lease["image"]["display_url"])
        self._notice(answer.body["status"])

    def _notice(self, status: dict[str, Any]) -> None:
        number = (status.get("ranking") or {}).get("number")
        is_new = self._ranking is not None and number != self._ranking
        self._ranking = number
        if is_new:
            self._claim(fresh=True)

    def _submit(self, lease: dict[str, Any]) -> None:
        key = uuid.uuid4().hex
        classes = self._plan.classes
        body = {
            "lease": lease["token"],
            "class_ids": [classes[lease["image"]["id"] % len(classes)]],
            "seconds": self._plan.think_s,
        }
        self._done.add(lease["token"])
        answer = self._ask("submit", f"{self._queue}submit/", body, Idempotency_Key=key)
        if answer.status in {200, 201}:
            self._notice(answer.body["status"])

    def _ask(self, op: str, path: str, body: dict[str, Any], **headers: str) -> Answer:
        """Send a request again until it is answered, as the page's outbox does."""
        while True:
            answer = self._browser.send(op, path, body, **headers)
            self.history[-1]["key"] = headers.get("Idempotency_Key", "")
            if answer.status not in {0, 429} and answer.status < 500:
                return answer
            if _now() >= self._until and op != "submit":
                return answer
            time.sleep(answer.wait_s or PAUSE_AFTER_ERROR_S)

    def _leave(self) -> None:
        for lease in self._held:
            self._browser.send("release", f"{self._queue}leases/{lease['token']}/release/", {})


def _now() -> float:
    return time.monotonic()


def play(plan: Plan) -> list[dict[str, Any]]:
    """Let everybody label at once; return the history, in the order of the ends."""
    people = [Person(plan, number) for number in range(len(plan.sessions))]
    started = _now()
    threads = [threading.Thread(target=person.label, args=(started,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [entry for person in people for entry in person.history]
    for entry in entries:
        for name in ("start", "end", "first_byte"):
            entry[name] -= started
    return sorted(entries, key=lambda entry: entry["end"])


def main() -> None:
    """Play the plan and write the history, a line a request."""
    plan, history = Plan.load(Path(sys.argv[1])), Path(sys.argv[2])
    with history.open("w") as written:
        for entry in play(plan):
            written.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
