"""The registry of checks and how they are run: each says in one line how it stands."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

logger = logging.getLogger(__name__)


class Status(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What a check found; ``mend`` is what to do next, when it is not the check's usual answer."""

    status: Status
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Line:
    """A finding under the name of its check."""

    name: str
    status: Status
    text: str
    mend: str


@dataclass(frozen=True)
class _Check:
    find: Callable[[], Finding]
    mend: str


_checks: dict[str, _Check] = {}
Find = Callable[[], Finding]


def check(name: str, *, mend: str) -> Callable[[Find], Find]:
    """Register a check.

    Args:
        name: what people call it.
        mend: what to do next when it is not ok.
    """

    def register(find: Find) -> Find:
        _checks[name] = _Check(find, mend)
        return find

    return register


def names() -> list[str]:
    """Return the names of all checks, in the order they are run."""
    return list(_checks)


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(Status.OK, text)


def warning(text: str, mend: str = "") -> Finding:
    """Work goes on, and something should be done."""
    return Finding(Status.WARNING, text, mend)


def failed(text: str, mend: str = "") -> Finding:
    """Something people rely on does not work."""
    return Finding(Status.FAILED, text, mend)


def examine(name: str) -> Line:
    """Run one check; one that breaks has failed, and the others still run."""
    entry = _checks[name]
    try:
        found = entry.find()
    except Exception as error:
        logger.debug("check %s broke", name, exc_info=True)
        found = failed(f"{type(error).__name__}: {error}")
    mend = "" if found.status == Status.OK else found.mend or entry.mend
    return Line(name, found.status, " ".join(found.text.split()), mend)
