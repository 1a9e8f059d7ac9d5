"""What every write of the queue shares."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import IntegrityError, transaction

Params = ParamSpec("Params")
Answer = TypeVar("Answer")

# Sixteen people who ask at the same instant have been seen to meet five times in a row.
ATTEMPTS = 12


def retried_on_collision(function: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """Run the transaction again when another one was faster at a unique constraint."""

    @wraps(function)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> Answer:
        for _ in range(ATTEMPTS - 1):
            try:
                with transaction.atomic():
                    return function(*args, **kwargs)
            except IntegrityError:
                continue
        with transaction.atomic():
            return function(*args, **kwargs)

    return run
