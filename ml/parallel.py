"""Every core on its own blocks: several times as fast as all cores on one block after another."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch

Value = TypeVar("Value")


def on_every_core(do: Callable[[int], None], blocks: Iterable[int]) -> None:
    """Call ``do`` for every block, as many at once as torch may use threads.

    torch and numpy let other threads run while they compute. Meanwhile torch itself uses one thread
    a call, so that threads do not wait for each other.

    Args:
        do: called once a block, from several threads; writes its result where no other does.
        blocks: what it is called with.

    Raises:
        Exception: what ``do`` raised for the first block that failed.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(do, blocks):
                pass
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
