"""Every core on its own blocks: several times as fast as all cores on one block after another."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch

Block = TypeVar("Block")
Result = TypeVar("Result")
Value = TypeVar("Value")


def _nothing(result: object) -> None:
    pass


def on_every_core(
    do: Callable[[Block], Result],
    blocks: Iterable[Block],
    *,
    then: Callable[[Result], None] = _nothing,
    cores: int | None = None,
) -> None:
    """Call ``do`` for every block, on several cores at once.

    torch, numpy and onnxruntime let other threads run while they compute. Meanwhile torch itself
    uses one thread a call, so that threads do not wait for each other.

    Args:
        do: called once a block, from several threads.
        blocks: what it is called with.
        then: called in this thread with what ``do`` returned, in the order of the blocks; may raise
            to leave the rest undone.
        cores: as many as torch may use threads without.

    Raises:
        Exception: what ``do`` raised for the first block that failed, or ``then``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores or threads) as pool:
            for result in pool.map(do, blocks):
                then(result)
    finally:
        torch.set_num_threads(threads)


class computed_once(Generic[Value]):  # noqa: N801 - read like a property
    """A property that keeps its first value in the object, for objects that stay in one thread.

    ``functools.cached_property`` of Python 3.11 holds one lock for all objects of a class, so that
    only one core at a time computes.

    Source: https://docs.python.org/3/library/functools.html#functools.cached_property
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        """Keep what computes the value."""
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Note under which name objects keep the value; from then on Python finds it there."""
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Value:
        """Compute the value of an object that has none yet."""
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
