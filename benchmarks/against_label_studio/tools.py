"""What is asked of each program, in the same words."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.against_label_studio.client import Call

PAGE = 100
MODEL = "outside"
IMPORT, LIST, PREDICT, NEXT, SUBMIT = "import", "list", "predict", "next", "submit"


@dataclass(frozen=True)
class Item:
    """An image somebody was given.

    Attributes:
        name: of its file.
        handle: by which its label is sent.
    """

    name: str
    handle: str


class Person(ABC):
    """Somebody who labels, with a token of their own."""

    @abstractmethod
    def next(self) -> Item | None:
        """Ask for the next image; None when the request failed."""

    @abstractmethod
    def submit(self, item: Item, class_name: str) -> bool:
        """Say what it shows; False when the request failed."""


class Tool(ABC):
    """A running program with one project."""

    name: str

    def __init__(self) -> None:
        self.calls: list[Call] = []

    @abstractmethod
    def add(self, files: Sequence[Path]) -> None:
        """Add pictures in one request."""

    @abstractmethod
    def settle(self) -> None:
        """Wait until no background work is left, so that it takes nothing from the other."""

    @abstractmethod
    def pages(self) -> Iterator[int]:
        """List the images, a page of the same size at a time; yield how many each has."""

    @abstractmethod
    def predict(self, said: dict[str, list[float]]) -> None:
        """Post a model's probabilities and return once they drive the order."""

    @abstractmethod
    def people(self, n: int) -> list[Person]:
        """Return so many people; the same ones again when asked again."""
