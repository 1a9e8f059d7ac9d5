"""Requests that are repeated until they are answered, and done once."""

import hashlib
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from annotator_client.errors import AnnotatorError, UnreachableError, error_of

PATIENCE_S = 120.0
TIMEOUT_S = 60.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
LARGEST_PAGE = 200
# Worth another try: too many requests, and what a proxy or a server says that is just starting.
PASSING = {429, 502, 503, 504}
IN_PROGRESS = "idempotency-in-progress"
WRITES = {"POST", "PUT", "PATCH", "DELETE"}

Files = list[tuple[str, tuple[str, bytes]]]


class Transport:
    """Sends requests to one server as one user. Threads may share it.

    What fails for a reason that passes (no connection, 429, 503) is sent again, with growing
    pauses or after the ``Retry-After`` of the answer. Every write carries an idempotency key, the
    same one each time, so that a request whose answer was lost is not done twice.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = _address_of(url)
        token = token.strip()
        if not (token.isascii() and token.isprintable()):
            raise AnnotatorError("The token holds what no token has. Copy it again.")
        self._patience_s = patience_s
        self._sleep = sleep
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=httpx.Timeout(TIMEOUT_S, connect=10.0),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        files: Files | None = None,
        fields: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """Send a request until it is answered.

        Args:
            method: in capitals.
            path: below ``/api/v1/``, or from the root of the server.
            json: the body.
            params: what follows the question mark.
            files: the files of a multipart body.
            fields: its other fields.
            key: the idempotency key of a write; a new one if it is left out.

        Raises:
            ApiError: the server refused.
            UnreachableError: nobody answered in time.
        """
        headers = {"Idempotency-Key": key or uuid.uuid4().hex} if method in WRITES else {}
        request = self._http.build_request(
            method,
            self._url(path),
            json=json,
            params=params,
            files=files,
            data=fields,
            headers=headers,
        )
        request.read()  # so that the body can be sent again
        return self._until_answered(lambda: self._http.send(request))

    def _url(self, path: str) -> str:
        return f"{self.address}{path}" if path.startswith("/") else f"{self.address}/api/v1/{path}"

    def _until_answered(self, once: Callable[[], httpx.Response]) -> httpx.Response:
        if self._http.is_closed:
            raise AnnotatorError("The client is closed: its “with” block has ended.")
        deadline: float | None = None
        for pause in _pauses():
            answer = _answer_of(once)
            if isinstance(answer, httpx.Response) and not _passes(answer):
                return _checked(answer)
            wait = max(pause, _retry_after(answer))
            # From the first failure on: a large download that breaks off has taken its time.
            deadline = deadline or time.monotonic() + self._patience_s
            if time.monotonic() + wait > deadline:
                break
            self._sleep(wait)
        if isinstance(answer, httpx.Response):
            return _checked(answer)
        raise UnreachableError(
            f"{self.address} does not answer ({_reason(answer)}). "
            "Is the address right, and is the server running?"
        ) from answer

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of a GET; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return _json_of(self.send("GET", path, params=given or None))

    def write(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Return the JSON of a write, or None where the answer is empty."""
        answer = self.send(method, path, json=body, key=key)
        return _json_of(answer) if answer.content else None

    def download(self, address: str, target: Path, *, sha256: str) -> None:
        """Write a file of the server; it appears under its name when it is complete.

        Raises:
            AnnotatorError: it was damaged on the way.
        """
        part = target.with_name(f"{target.name}.part")
        self._until_answered(lambda: self._save(address, part))
        with part.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        if digest != sha256:
            part.unlink()
            raise AnnotatorError(f"{target} was damaged on the way. Try again.")
        part.replace(target)

    def _save(self, address: str, part: Path) -> httpx.Response:
        with self._http.stream("GET", self._url(address)) as answer:
            if not answer.is_success:
                answer.read()
                return answer
            with part.open("wb") as written:
                for piece in answer.iter_bytes():
                    written.write(piece)
        return answer

    def pages(self, path: str, **params: Any) -> Iterator[list[dict[str, Any]]]:
        """Yield the pages of a list, each fetched when it is wanted."""
        params = {"limit": LARGEST_PAGE, **params}
        page = self.get(path, **params)
        yield page["results"]
        while page["next"]:
            # The cursor alone is taken from the address: behind a proxy its host may be another.
            cursor = httpx.URL(page["next"]).params["cursor"]
            page = self.get(path, **params, cursor=cursor)
            yield page["results"]

    def rows(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list."""
        for page in self.pages(path, **params):
            yield from page


def _address_of(url: str) -> str:
    """Return the address of the server without a path of the API.

    Raises:
        AnnotatorError: it is no web address.
    """
    address = url.strip().rstrip("/").removesuffix("/api/v1")
    if not _is_address(address):
        raise AnnotatorError(
            f"“{url}” is no address of a server. Give one such as https://label.example.org"
        )
    return address


def _is_address(text: str) -> bool:
    try:
        parts = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.host)


def _answer_of(once: Callable[[], httpx.Response]) -> httpx.Response | httpx.TransportError:
    try:
        return once()
    except httpx.TransportError as error:
        return error


def _json_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise AnnotatorError(
            f"{answer.url} answers with something else than JSON. Is it an Annotator server?"
        ) from error


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE_S
    while True:
        # Up to half more by chance, so that many clients do not come back at once.
        yield pause * random.uniform(1, 1.5)  # noqa: S311 - no secret
        pause = min(pause * 2, LONGEST_PAUSE_S)


def _passes(answer: httpx.Response) -> bool:
    if answer.status_code in PASSING:
        return True
    return answer.status_code == httpx.codes.CONFLICT and _problem(answer)["code"] == IN_PROGRESS


def _retry_after(answer: httpx.Response | httpx.TransportError) -> float:
    if not isinstance(answer, httpx.Response):
        return 0.0
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    if answer.is_redirect:
        raise AnnotatorError(
            f"The server sends requests on to {answer.headers.get('Location', 'nowhere')}. "
            "Give the final address, with https:// if that is it."
        )
    raise error_of(answer.status_code, _problem(answer))


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """Return the problem an answer tells of; what is not from Annotator itself has none."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    return {"code": "", **problem} if isinstance(problem, dict) else {"code": ""}


def _reason(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
