"""What every write of the queue shares."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import IntegrityError, OperationalError, transaction

Params = ParamSpec("Params")
Answer = TypeVar("Answer")

# Sixteen people who ask at the same instant have been seen to meet five times in a row.
ATTEMPTS = 12
DEADLOCK = "40P01"


def retried_on_collision(function: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """Run the transaction again when another one was faster, at a constraint or at a lock."""

    @wraps(function)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> Answer:
        for _ in range(ATTEMPTS - 1):
            try:
                with transaction.atomic():
                    return function(*args, **kwargs)
            except IntegrityError:
                continue
            except OperationalError as error:
                # PostgreSQL has ended one of two transactions that waited for each other.
                if getattr(error.__cause__, "sqlstate", None) != DEADLOCK:
                    raise
        with transaction.atomic():
            return function(*args, **kwargs)

    return run
