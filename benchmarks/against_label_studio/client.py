"""The one HTTP client that both programs are asked with."""

import http.client
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.queue_load.clients import IDLE_S, TIMEOUT_S

OK = range(200, 300)


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        op: which part of the work it was.
        seconds: from the first byte sent to the last received.
        status: of the answer; 0 when none came.
    """

    op: str
    seconds: float
    status: int


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 when nothing did."""

    status: int
    body: Any


class Client:
    """One user of an API on one kept connection; every request becomes a call of the log."""

    def __init__(self, port: int, authorization: str, log: list[Call]) -> None:
        self._port, self._log = port, log
        self._headers = {"Authorization": authorization, "Accept": "application/json"}
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0

    def ask(
        self, op: str, method: str, path: str, body: Any = None, *, limit: float = TIMEOUT_S
    ) -> Answer:
        """Send JSON, if anything, and return the answer."""
        if body is None:
            return self._send(op, method, path, b"", {}, limit)
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        return self._send(op, method, path, json.dumps(body).encode(), headers, limit)

    def upload(self, op: str, path: str, files: Sequence[Path], field: str = "") -> Answer:
        """Send files as a form does and return the answer.

        Args:
            op: which part of the work it is.
            path: where to.
            files: the pictures.
            field: of the form that holds them; each one's own name if left out.
        """
        boundary = uuid.uuid4().hex
        parts = [_part(file, field or file.name, boundary) for file in files]
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._send(op, "POST", path, body, headers, 10 * TIMEOUT_S)

    def must(self, answer: Answer) -> Any:
        """Return the body of an answer without which nothing can go on.

        Raises:
            SystemExit: it was refused.
        """
        if answer.status not in OK:
            raise SystemExit(f"port {self._port} answered {answer.status}: {answer.body}")
        return answer.body

    def _send(
        self, op: str, method: str, path: str, body: bytes, headers: dict[str, str], limit: float
    ) -> Answer:
        started = time.monotonic()
        try:
            connection = self._open(limit)
            connection.request(method, path, body or None, {**self._headers, **headers})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            answer = Answer(0, f"{type(error).__name__}: {error}")
        else:
            answer = Answer(response.status, _parsed(response, content))
        self._used_at = time.monotonic()
        self._log.append(Call(op, self._used_at - started, answer.status))
        return answer

    def _open(self, limit: float) -> http.client.HTTPConnection:
        if self._connection and time.monotonic() - self._used_at > IDLE_S:
            self.close()
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=limit)
            self._connection.connect()
        if self._connection.sock:
            self._connection.sock.settimeout(limit)
        return self._connection

    def close(self) -> None:
        """Drop the connection."""
        if self._connection:
            self._connection.close()
        self._connection = None


def _part(file: Path, field: str, boundary: str) -> bytes:
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{file.name}"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + file.read_bytes() + b"\r\n"


def _parsed(response: http.client.HTTPResponse, content: bytes) -> Any:
    is_json = "json" in response.headers.get("Content-Type", "")
    return json.loads(content) if is_json and content else content[:200].decode(errors="replace")
