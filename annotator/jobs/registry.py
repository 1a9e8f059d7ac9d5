"""Which function does which kind of job; filled by the apps when they are ready."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

_handlers: dict[str, str] = {}
_on_failure: dict[str, str] = {}


def register(kind: str, handler: str, *, on_failure: str | None = None) -> None:
    """Name the function of a kind as ``"package.module:function"``, imported when first run.

    Args:
        kind: the job kind.
        handler: called with the :class:`annotator.jobs.running.JobRun`.
        on_failure: called with the job id once the job has failed for good.
    """
    _handlers[kind] = handler
    if on_failure:
        _on_failure[kind] = on_failure


def handler_of(kind: str) -> Callable[[Any], None]:
    """Return the function that does this kind of job.

    Raises:
        LookupError: nobody registered it.
    """
    if kind not in _handlers:
        raise LookupError(f"no handler is registered for jobs of kind {kind!r}")
    return _load(_handlers[kind])


def failure_hook_of(kind: str) -> Callable[[int], None] | None:
    """Return what must be called when such a job has failed for good, if anything."""
    return _load(_on_failure[kind]) if kind in _on_failure else None


def _load(path: str) -> Callable[..., None]:
    module, _, name = path.partition(":")
    function: Callable[..., None] = getattr(import_module(module), name)
    return function
