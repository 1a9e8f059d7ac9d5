"""One project of a server, and all that a program does with it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from annotator_client import queueing, uploading
from annotator_client.errors import (
    AnnotatorError,
    ConflictError,
    RoundFailedError,
    WaitedTooLongError,
)
from annotator_client.queueing import Task
from annotator_client.results import (
    Annotation,
    Event,
    Image,
    LabelClass,
    Metrics,
    Predicted,
    ProjectInfo,
    Round,
    Uploaded,
    Webhook,
    result_of,
)
from annotator_client.transport import Transport

# What one request may hold: the server takes 10,000 images, and 4 MB, of 20 bytes a number.
IMAGES_AT_ONCE = 10_000
NUMBERS_AT_ONCE = 120_000
EVENTS_AT_ONCE = 200
POLL_S = 1.0
QUICK_POLL_S = 0.2
WAIT_S = 600.0

Found = TypeVar("Found")


class Table(Protocol):
    """A row for each image, a column for each class: a list of lists, or a numpy array."""

    def __len__(self) -> int:
        """Return how many rows there are."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Return some of the rows."""
        ...


class Project:
    """A project as its programs see it; ``info`` is what it was when it was last read."""

    def __init__(self, transport: Transport, info: ProjectInfo) -> None:
        self.transport = transport
        self.info = info
        self._path = f"projects/{info.id}/"

    def __repr__(self) -> str:
        return f"<Project {self.id} {self.name!r}>"

    @property
    def id(self) -> int:
        """Its number."""
        return self.info.id

    @property
    def name(self) -> str:
        """Its name."""
        return self.info.name

    @property
    def classes(self) -> list[LabelClass]:
        """Its label set, in order."""
        return self.info.classes

    @property
    def page(self) -> str:
        """The address of its labeling page."""
        return f"{self.transport.address}/projects/{self.id}/label/"

    def refresh(self) -> "Project":
        """Read ``info`` anew."""
        self.info = result_of(ProjectInfo, self.transport.get(self._path))
        return self

    def class_id(self, name: str | int) -> int:
        """Return the id of a class that is given by its name or its id.

        Raises:
            AnnotatorError: the project has no such class.
        """
        found = self._class_of(name) or self.refresh()._class_of(name)
        if found is None:
            known = ", ".join(entry.name for entry in self.classes) or "none yet"
            raise AnnotatorError(f"{self.name} has no class “{name}”. Its classes: {known}.")
        return found.id

    def class_ids(self, classes: str | int | Sequence[str | int]) -> list[int]:
        """Return the ids of one class, or of several."""
        names = [classes] if isinstance(classes, str | int) else list(classes)
        return [self.class_id(name) for name in names]

    def _class_of(self, name: str | int) -> LabelClass | None:
        return next((entry for entry in self.classes if name in (entry.name, entry.id)), None)

    # Images

    def upload(
        self,
        paths: Iterable[str | Path],
        *,
        threads: int = 4,
        external_id: uploading.ExternalIdOf | None = None,
        on_result: uploading.OnResult | None = None,
    ) -> Uploaded:
        """Add pictures: files, and all pictures in folders.

        What the project has already is not sent, so that an upload which was cut off goes on where
        it was when it is started again. A file that cannot be read or is no picture stops no other.

        Args:
            paths: files and folders.
            threads: how many requests at once.
            external_id: what your own system calls the image of a file; empty for none. Everything
                is sent then, and the server says what is there already.
            on_result: called for each file as soon as its result is known.
        """
        files = uploading.files_of(paths)
        address = f"{self._path}images/"
        return uploading.upload(
            self.transport,
            address,
            files,
            threads=threads,
            external_id=external_id,
            on_result=on_result,
        )

    def images(self, **filters: str | int) -> Iterator[Image]:
        """Yield the images, the newest first; filters as docs/api.md has them."""
        return self._rows(Image, "images/", **filters)

    def annotations(self, **filters: str | int) -> Iterator[Annotation]:
        """Yield the labels that stand, the newest first; filters as docs/api.md has them."""
        return self._rows(Annotation, "annotations/", **filters)

    def label(self, image: int | str, classes: str | int | Sequence[str | int]) -> Annotation:
        """Say of an image what it is, whether the queue has served it or not.

        Args:
            image: its id, or its external id.
            classes: name or id of the class, or several where the project allows it.
        """
        body = {**_named(image), "class_ids": self.class_ids(classes)}
        answer = self.transport.write("POST", f"{self._path}annotations/", body)
        return result_of(Annotation, answer["annotation"])

    # Predictions

    def predict(
        self,
        model: str,
        images: Sequence[int | str],
        probabilities: Table,
        *,
        classes: Sequence[str | int] | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> Predicted:
        """Post what a model of your own says of images; what it said of them before is replaced.

        Args:
            model: its name.
            images: their ids, or their external ids.
            probabilities: a row for each image, a column for each class.
            classes: names or ids of the columns; the project's classes in order if left out.
            on_progress: called with the number of images of each request that was answered.

        Raises:
            AnnotatorError: rows and images are not of the same number.
        """
        if len(images) != len(probabilities):
            raise AnnotatorError(
                f"There are {len(images)} images and {len(probabilities)} rows of probabilities."
            )
        columns = [entry.id for entry in self.classes]
        if classes is not None:
            columns = [self.class_id(entry) for entry in classes]
        step = max(min(IMAGES_AT_ONCE, NUMBERS_AT_ONCE // max(len(columns), 1)), 1)
        created, updated, rejected = 0, 0, list[int | str]()
        for start in range(0, len(images), step):
            names = images[start : start + step]
            rows = _plain(probabilities[start : start + step])
            body = {
                "model": model,
                "class_ids": columns,
                "predictions": [
                    {**_named(image), "probabilities": row}
                    for image, row in zip(names, rows, strict=True)
                ],
            }
            answer = self.transport.write("PUT", f"{self._path}predictions/", body)
            created += answer["created"]
            updated += answer["updated"]
            rejected += [_name_in(entry) for entry in answer["rejected"]]
            if on_progress:
                on_progress(len(names))
        return Predicted(created, updated, rejected)

    # The queue

    def queue(self, *, ahead: int = 1, wait: bool = False) -> Iterator[Task]:
        """Yield images to label in the order they are served, the most useful first.

        Each is held until it is submitted, skipped or released; the loop prolongs what it holds.
        What is left when the loop ends goes back to its old place.

        Args:
            ahead: how many images are held at once (20 at most).
            wait: go on when there is none now, instead of ending.
        """
        return queueing.serve(self, ahead=ahead, wait=wait)

    def settings(self) -> dict[str, Any]:
        """Return the settings of the queue."""
        found: dict[str, Any] = self.transport.get(f"{self._path}queue/settings/")
        return found

    def change_settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings of the queue and return all of them; names as docs/api.md has them."""
        path = f"{self._path}queue/settings/"
        changed: dict[str, Any] = self.transport.write("PATCH", path, changes)
        return changed

    def status(self) -> dict[str, Any]:
        """Return the state of the queue as the labeling page polls it."""
        found: dict[str, Any] = self.transport.get(f"{self._path}queue/status/")
        return found

    def wait_until_embedded(self, *, timeout_s: float = WAIT_S) -> None:
        """Wait until every image can be ranked.

        Raises:
            WaitedTooLongError: not in that time.
        """

        def all_embedded() -> bool:
            status = self.status()
            done = status["n_embedded"] + status["n_embedding_failures"]
            return bool(done >= status["n_images"])

        self._wait("every image to be embedded", all_embedded, timeout_s)

    # Learning

    def start_round(self) -> Round:
        """Start a round.

        Raises:
            ConflictError: one is under way.
        """
        return result_of(Round, self.transport.write("POST", f"{self._path}rounds/"))

    def rounds(self) -> Iterator[Round]:
        """Yield the rounds, the newest first."""
        return self._rows(Round, "rounds/")

    def round(self, round_id: int) -> Round:
        """Return one round."""
        return result_of(Round, self.transport.get(f"{self._path}rounds/{round_id}/"))

    def wait_for_round(self, started: Round, *, timeout_s: float = WAIT_S) -> Round:
        """Return a round once it is done.

        Raises:
            RoundFailedError: it has failed.
            WaitedTooLongError: it is not over in that time.
        """

        def over() -> Round | None:
            found = self.round(started.id)
            return found if found.is_over else None

        ended = self._wait(f"round {started.number}", over, timeout_s)
        if ended.state == "failed":
            raise RoundFailedError(f"Round {ended.number} has failed: {ended.error}")
        return ended

    def order_by(self, model: str, *, timeout_s: float = WAIT_S) -> Round:
        """Let the predictions of a model of your own order the queue, from now on.

        Waits until every image can be ranked, and for the round that ranks them.

        Args:
            model: whose predictions were posted; empty: the model trained here.
            timeout_s: how long to wait for the new order.

        Returns:
            The round that made the order.
        """
        self.wait_until_embedded(timeout_s=timeout_s)
        self.change_settings(predictions_from=model)
        return self.run_round(timeout_s=timeout_s)

    def run_round(self, *, timeout_s: float = WAIT_S) -> Round:
        """Start a round with what is known now, after one that is under way, and wait for it."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self.wait_for_round(self.start_round(), timeout_s=timeout_s)
            except ConflictError as error:
                if error.code != "round-active" or time.monotonic() > deadline:
                    raise
            time.sleep(QUICK_POLL_S)

    def metrics(self) -> Metrics:
        """Return the learning curve and the other figures of the progress page."""
        return result_of(Metrics, self.transport.get(f"{self._path}metrics/"))

    # Exports

    def export(
        self,
        file_format: str = "csv",
        to: str | Path | None = None,
        *,
        timeout_s: float = WAIT_S,
        **options: Any,
    ) -> Path:
        """Let the server write a file of the labels, and download it.

        Args:
            file_format: ``csv``, ``coco`` and the others of docs/api.md.
            to: the file to write; in this folder under the server's name if left out.
            timeout_s: how long the server may write.
            **options: which images, and what of them, as docs/api.md has it.

        Raises:
            AnnotatorError: the export failed.
            WaitedTooLongError: it is not written in that time.
        """
        wanted = {"format": file_format, **options}
        made = self.transport.write("POST", f"{self._path}exports/", wanted)
        path = f"{self._path}exports/{made['id']}/"

        def written() -> dict[str, Any] | None:
            found: dict[str, Any] = self.transport.get(path)
            return None if found["state"] in {"queued", "running"} else found

        ended = self._wait("the export", written, timeout_s)
        if ended["state"] != "done":
            raise AnnotatorError(f"The export has {ended['state']}: {ended['error']}")
        target = Path(to) if to is not None else Path(Path(ended["file_name"]).name)
        self.transport.download(ended["download_url"], target, sha256=ended["sha256"])
        return target

    # What happens

    def events(self, after: int = 0, *, follow: bool = False) -> Iterator[Event]:
        """Yield what happened after an event, the oldest first.

        Args:
            after: the id of the last event you know; 0 is the beginning.
            follow: do not end, but wait for what happens next.
        """
        path = f"{self._path}events/"
        while True:
            page = self.transport.get(path, after=after, limit=EVENTS_AT_ONCE)
            yield from (result_of(Event, row) for row in page["results"])
            after = page["after"]
            if len(page["results"]) < EVENTS_AT_ONCE:
                if not follow:
                    return
                time.sleep(POLL_S)

    def create_webhook(
        self, url: str, events: Sequence[str] = ("*",), *, description: str = ""
    ) -> Webhook:
        """Let an address be told of events; the answer has the secret that signs them."""
        body = {"url": url, "events": list(events), "description": description}
        made = self.transport.write("POST", f"{self._path}webhooks/", body)
        if made["secret"] is None:
            # The first answer was lost, and a secret is shown once: make another.
            made = self.transport.write("POST", f"webhooks/{made['id']}/rotate/")
        return result_of(Webhook, made)

    def _rows(self, kind: type[Found], path: str, **filters: Any) -> Iterator[Found]:
        return (result_of(kind, row) for row in self.transport.rows(self._path + path, **filters))

    def _wait(self, what: str, look: Callable[[], Found | None], timeout_s: float) -> Found:
        deadline = time.monotonic() + timeout_s
        while not (found := look()):
            if time.monotonic() > deadline:
                raise WaitedTooLongError(
                    f"Waited {timeout_s:g} s for {what}. Are the workers running? "
                    f"See {self.transport.address}/system/"
                )
            time.sleep(QUICK_POLL_S)
        return found


def _plain(rows: Any) -> list[list[float]]:
    """Return rows as lists; arrays of numpy and the like know how."""
    plain: list[list[float]] = rows.tolist() if hasattr(rows, "tolist") else [*map(list, rows)]
    return plain


def _named(image: int | str) -> dict[str, int | str]:
    return {"external_id": image} if isinstance(image, str) else {"image": int(image)}


def _name_in(rejected: dict[str, Any]) -> int | str:
    name: int | str = rejected["image"] if "image" in rejected else rejected["external_id"]
    return name
