"""What a lead does while others label: starts rounds, imports a zip, looks at pages."""

import base64
import http.client
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.core import signing

from benchmarks.queue_load import rows
from benchmarks.queue_load.clients import Answer, Browser
from benchmarks.queue_load.installation import Installation

# As static/js/upload/send_zip.js does.
PIECE = 8 * 1024**2
LOOK_AT_ROUND_S = 0.1
LOOK_AT_IMPORT_S = 0.5


class Lead:
    """The lead of a project, in a browser."""

    def __init__(self, installation: Installation, made: rows.Made) -> None:
        self.history: list[dict[str, Any]] = []
        self._port, self._project = installation.port, made.large
        self._session = rows.sign_in(made.lead)
        self._browser = Browser(installation.port, self._session, self.history.append)
        self._api = f"/api/v1/projects/{made.large.pk}/"

    def get(self, path: str, op: str = "") -> Answer:
        """Get a page or a route."""
        return self._browser.send(op or path, path)

    def round(self, until: float) -> dict[str, Any] | None:
        """Start a round and return it once it is done; None when the time is over first.

        Raises:
            SystemExit: it fails.
        """
        started = self._browser.send("round", f"{self._api}rounds/", {})
        shown = started.body if started.status == 201 else started.body["round"]
        while shown["state"] in {"queued", "running"}:
            if time.monotonic() > until:
                return None
            time.sleep(LOOK_AT_ROUND_S)
            shown = self.get(f"{self._api}rounds/{shown['id']}/", "round").body
        if shown["state"] != "done":
            raise SystemExit(f"the round failed: {shown['error']}")
        return shown

    def upload(self, file: Path) -> int:
        """Send a zip in pieces and return the id of its import.

        Raises:
            SystemExit: it is refused.
        """
        size, name = file.stat().st_size, base64.b64encode(file.name.encode()).decode()
        headers = {"Upload-Length": str(size), "Upload-Metadata": f"filename {name}"}
        answer = self._tus("POST", f"{self._api}uploads/", headers)
        path = "/" + answer["Location"].split("/", 3)[3]
        offset = 0
        with file.open("rb") as opened:
            while piece := opened.read(PIECE):
                headers = {
                    "Upload-Offset": str(offset),
                    "Content-Type": "application/offset+octet-stream",
                }
                answer = self._tus("PATCH", path, headers, piece)
                offset += len(piece)
        return int(answer["X-Import-Id"])

    def _tus(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        signed_in = {"Cookie": f"sessionid={self._session}; csrftoken={'x' * 32}"}
        token = {"X-CSRFToken": "x" * 32, "Tus-Resumable": "1.0.0"}
        connection.request(method, path, body, {**signed_in, **token, **headers})
        response = connection.getresponse()
        response.read()
        connection.close()
        if response.status not in {201, 204}:
            raise SystemExit(f"the upload was answered {response.status}")
        return response.headers

    def watch_import(self, number: int, until: float) -> Iterator[tuple[float, dict[str, Any]]]:
        """Look at an import until it has ended: seconds since the first look, and what is shown."""
        started = time.monotonic()
        while time.monotonic() < until:
            shown = self.get(f"{self._api}imports/{number}/", "import").body
            yield time.monotonic() - started, shown
            if shown["state"] in {"done", "failed", "cancelled"}:
                return
            time.sleep(LOOK_AT_IMPORT_S)


@dataclass(frozen=True)
class Page:
    """A page or route of the large project.

    Attributes:
        name: of its figure.
        path: how to ask for it; told an image id, for those that can begin anywhere.
    """

    name: str
    path: Callable[[int], str]


def pages(project: int, class_id: int, rare_id: int, *, user: int) -> list[Page]:
    """Return everything that could grow with the pool and that this user opens."""
    page, api = f"/projects/{project}/", f"/api/v1/projects/{project}/"

    def listing(name: str, path: str, filters: str) -> Page:
        return Page(name, lambda image: f"{path}?{filters}&cursor={cursor_at(image)}")

    def signed(name: str, filters: str) -> Page:
        path = f"{api}images/"
        return Page(name, lambda image: f"{path}?{filters}&cursor={signed_at(image, path, user)}")

    both = f"status=labelled&class={class_id}"
    return [
        Page("home page", lambda _: "/"),
        Page("labeling page", lambda _: f"{page}label/"),
        Page("progress page", lambda _: f"{page}progress/"),
        Page("queue page", lambda _: f"{page}queue/"),
        Page("project, API", lambda _: api),
        Page("queue status, API", lambda _: f"{api}queue/status/"),
        Page("image page, first", lambda _: f"{page}images/"),
        listing("image page, any depth", f"{page}images/", ""),
        listing("image page, open", f"{page}images/", "status=open"),
        listing("image page, labelled", f"{page}images/", "status=labelled"),
        listing("image page, a class", f"{page}images/", f"class={class_id}"),
        listing("image page, a rare class", f"{page}images/", f"class={rare_id}"),
        signed("image list, API, any depth", ""),
        signed("image list, API, open", "status=open"),
        signed("image list, API, labelled", "status=labelled"),
        signed("image list, API, a class", f"class={class_id}"),
        signed("image list, API, a rare class", f"class={rare_id}"),
        signed("image list, API, labelled and a class", both),
        Page("ranking, API", lambda _: f"{api}queue/ranking/"),
    ]


def cursor_at(image: int) -> str:
    """Return the cursor of the page that begins below an image."""
    return base64.b64encode(f"p={image}".encode()).decode().replace("=", "%3D")


def signed_at(image: int, path: str, user: int) -> str:
    """Return the same for a list of the API, which signs its cursors (``annotator.api.paging``)."""
    return quote(signing.dumps([0, False, str(image)], salt=f"cursor:{path}:{user}"))


def browse(lead: Lead, wanted: list[Page], n_images: int, *, seconds: float) -> None:
    """Open the pages one after another, the lists at random depths."""
    rng = random.Random(1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for page in wanted:
            lead.get(page.path(rng.randint(100, n_images)), page.name)
