"""The way in: one server, as the owner of one token."""

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from annotator_client.errors import AnnotatorError
from annotator_client.project import Project
from annotator_client.results import ProjectInfo, result_of
from annotator_client.transport import PATIENCE_S, Transport


class Client:
    """A server, as the owner of a token sees it.

    Requests that fail for a reason that passes are repeated for a while (``patience_s``), and a
    write that is repeated is done once. Use it in a ``with`` block, or call ``close``.
    """

    def __init__(self, url: str = "", token: str = "", *, patience_s: float = PATIENCE_S) -> None:
        """Make a client; nothing is sent yet.

        Args:
            url: the address of the server; ``ANNOTATOR_URL`` of the environment if left out.
            token: ``ANNOTATOR_TOKEN`` if left out.
            patience_s: how long a request is repeated; it ends with an exception then.

        Raises:
            AnnotatorError: address or token are neither given nor in the environment.
        """
        self.transport = Transport(
            url or _of_environment("ANNOTATOR_URL", "the address of the server"),
            token or _of_environment("ANNOTATOR_TOKEN", "a token of your account page"),
            patience_s=patience_s,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def me(self) -> dict[str, Any]:
        """Return who the token acts as, and what it may."""
        found: dict[str, Any] = self.transport.get("me/")
        return found

    def projects(self) -> Iterator[Project]:
        """Yield your projects, the newest first."""
        for row in self.transport.rows("projects/"):
            yield Project(self.transport, result_of(ProjectInfo, row))

    def project(self, which: int | str) -> Project:
        """Return a project by its id or its name.

        Raises:
            AnnotatorError: none or several of yours have that name.
        """
        if isinstance(which, int):
            found = self.transport.get(f"projects/{which}/")
            return Project(self.transport, result_of(ProjectInfo, found))
        named = [project for project in self.projects() if project.name == which]
        if len(named) != 1:
            raise AnnotatorError(
                f"{len(named) or 'None'} of your projects {'have' if named else 'has'} the name "
                f"“{which}”. `annotator projects` lists them with their numbers."
            )
        return named[0]

    def create_project(
        self,
        name: str,
        classes: Sequence[str] = (),
        *,
        kind: str = "one_class",
        instructions: str = "",
    ) -> Project:
        """Create a project you lead.

        Args:
            name: what people call it.
            classes: the names of its classes.
            kind: ``one_class`` or ``several_classes``.
            instructions: what annotators read, as Markdown.
        """
        body = {
            "name": name,
            "kind": kind,
            "instructions": instructions,
            "classes": [{"name": entry} for entry in classes],
        }
        made = self.transport.write("POST", "projects/", body)
        return Project(self.transport, result_of(ProjectInfo, made))


def _of_environment(name: str, what: str) -> str:
    found = os.environ.get(name, "").strip()
    if not found:
        raise AnnotatorError(f"{name} is not set. Give {what} as an option, or set {name}.")
    return found
