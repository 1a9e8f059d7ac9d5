"""The work queue as a loop: images in the order they are served, held until they are answered."""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from annotator_client.errors import AnnotatorError, UnansweredError
from annotator_client.results import Image, Submitted, Suggestion, Why, result_of

if TYPE_CHECKING:
    from annotator_client.transport import Transport

logger = logging.getLogger(__name__)

POLL_S = 2.0
# A lease is prolonged so many times before it would end.
BEATS = 3

Classes = str | int | Sequence[str | int]


class Labels(Protocol):
    """What a task needs of its project."""

    transport: "Transport"

    @property
    def id(self) -> int:
        """The number of the project."""
        ...

    def class_ids(self, classes: "Classes") -> list[int]:
        """Return the ids of one class, or of several."""
        ...


@dataclass
class Task:
    """An image to label.

    Attributes:
        image: the picture.
        why: why it was served.
        suggestion: what the model would say, if it may be seen.
        expires_at: until when it is held, by the clock of the server; prolonged by itself.
    """

    project: Labels = field(repr=False)
    token: str
    image: Image
    why: Why
    suggestion: Suggestion | None
    expires_at: datetime
    is_answered: bool = False
    _key: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)
    _shown_at: float = field(default_factory=time.monotonic, repr=False)

    def submit(self, classes: Classes, *, seconds: float | None = None) -> Submitted:
        """Give the image its label. The same again is the same label, not a second one.

        Args:
            classes: name or id of the class, or several where the project allows it.
            seconds: how long it took; measured from when the loop gave the image.
        """
        taken = time.monotonic() - self._shown_at if seconds is None else seconds
        body = {
            "lease": self.token,
            "class_ids": self.project.class_ids(classes),
            "seconds": round(taken, 3),
        }
        path = f"projects/{self.project.id}/queue/submit/"
        answer = self.project.transport.write("POST", path, body, key=self._key)
        self.is_answered = True
        label = answer["annotation"]
        return Submitted(
            annotation_id=label["id"],
            image_id=answer["image_id"],
            class_ids=label["class_ids"],
            outcome=label["outcome"],
            message=answer["message"],
        )

    def skip(self, reason: str = "unsure", comment: str = "") -> None:
        """Pass the image on to somebody else; it does not come to you again."""
        self._do("skip", {"reason": reason, "comment": comment})

    def release(self) -> None:
        """Give the image back to its old place in the queue."""
        self._do("release")

    def picture(self, rendition: str = "display") -> bytes:
        """Return the bytes of the picture: ``display`` or ``thumbnail`` (JPEG), or ``original``."""
        address = getattr(self.image, f"{rendition}_url")
        return self.project.transport.send("GET", address).content

    def _do(self, action: str, body: dict[str, Any] | None = None) -> None:
        path = f"projects/{self.project.id}/queue/leases/{self.token}/{action}/"
        self.project.transport.write("POST", path, body)
        self.is_answered = True


def serve(project: Labels, *, ahead: int, wait: bool) -> Iterator[Task]:
    """Yield images until there is none for this program.

    Args:
        project: whose queue.
        ahead: how many images are held at once; more are faster over a slow line, and follow a
            new ranking later.
        wait: go on asking when there is none now.

    Raises:
        UnansweredError: an image was neither submitted, skipped nor released.
    """
    held = _Held(project, max(ahead, 1))
    try:
        with held.kept_alive():
            while True:
                task = held.next()
                if task is not None:
                    yield task
                    if not task.is_answered:
                        raise UnansweredError(
                            f"Submit, skip or release image {task.image.id} before you take the "
                            "next one."
                        )
                elif wait:
                    time.sleep(POLL_S)
                else:
                    return
    finally:
        held.release()


class _Held:
    """The images one loop holds, in the order they were served."""

    def __init__(self, project: Labels, ahead: int) -> None:
        self._project, self._ahead = project, ahead
        # Each loop has leases of its own, so that two loops of one token do not share images.
        self._client = uuid.uuid4().hex
        self._tasks: deque[Task] = deque()
        self._current: Task | None = None

    def next(self) -> Task | None:
        """Return the next image, or None when there is none."""
        if not self._tasks:
            answer = self._claim(self._ahead)
            self._tasks.extend(self._task(lease) for lease in answer["leases"])
        self._current = self._tasks.popleft() if self._tasks else None
        if self._current:
            self._current._shown_at = time.monotonic()
        return self._current

    def release(self) -> None:
        """Give back what was not answered."""
        left = [*([self._current] if self._current else []), *self._tasks]
        try:
            for task in left:
                if not task.is_answered:
                    task.release()
        except AnnotatorError as error:
            # They come back by themselves when their time is over; what ended the loop matters.
            logger.warning("The images held could not be given back: %s", error)

    def kept_alive(self) -> "_Heartbeat":
        """Prolong what is held for as long as the loop goes on."""
        settings = self._project.transport.get(f"projects/{self._project.id}/queue/settings/")
        return _Heartbeat(lambda: self._claim(0), settings["lease_minutes"] * 60 / BEATS)

    def _claim(self, n: int) -> dict[str, Any]:
        path = f"projects/{self._project.id}/queue/claim/"
        body = {"n": n, "client": self._client}
        answer: dict[str, Any] = self._project.transport.write("POST", path, body)
        return answer

    def _task(self, lease: dict[str, Any]) -> Task:
        suggestion = lease["suggestion"]
        return Task(
            project=self._project,
            token=lease["token"],
            image=result_of(Image, lease["image"]),
            why=result_of(Why, lease["why"]),
            suggestion=result_of(Suggestion, suggestion) if suggestion else None,
            expires_at=datetime.fromisoformat(lease["expires_at"]),
        )


class _Heartbeat:
    """Calls a function again and again while a block runs."""

    def __init__(self, beat: Callable[[], object], every_s: float) -> None:
        self._beat, self._every_s = beat, every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="annotator-heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            try:
                self._beat()
            except AnnotatorError as error:
                # A label that comes late is kept all the same, so the loop goes on.
                logger.warning("The images held could not be prolonged: %s", error)
