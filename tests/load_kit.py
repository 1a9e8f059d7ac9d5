"""Many people labeling at once, what they saw, and what is wrong with it."""

import multiprocessing
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import OperationalError, connection, connections
from factories import now

from workqueue import services


@dataclass(frozen=True)
class Served:
    """One image a person was given and labelled, by the clock of the machine."""

    person: int
    image: int
    asked_at: float
    granted_at: float
    done_at: float


def in_parallel(*functions: Callable[[], object]) -> list:
    """Run the functions at the same time, each with a connection of its own; return the answers."""
    start = threading.Barrier(len(functions))
    answers: list = [None] * len(functions)
    errors = []

    def run(place, function):
        try:
            start.wait()
            answers[place] = function()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=(place, function))
        for place, function in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers


def in_processes(*groups: list[Callable[[], list]]) -> list:
    """Run each group of functions in a process of its own; return all that they answered."""
    connections.close_all()
    fork = multiprocessing.get_context("fork")
    pipes = []
    for functions in groups:
        here, there = fork.Pipe(duplex=False)
        process = fork.Process(target=_send_answers, args=(functions, there))
        process.start()
        there.close()
        pipes.append((here, process))
    answers = []
    for here, process in pipes:
        answers += here.recv()
        process.join()
    return answers


def _send_answers(functions, pipe) -> None:
    pipe.send([entry for answer in in_parallel(*functions) for entry in answer])
    pipe.close()


def asked_again(ask: Callable[[], Any]) -> Any:
    """Return the answer; a writer whom SQLite lets wait too long asks again, as clients do."""
    for _ in range(5):
        try:
            return ask()
        except OperationalError as error:
            if "locked" not in str(error):
                raise
    return ask()


def drain(user, project, class_id, claim=services.claim) -> list[Served]:
    """Label what is served until nothing is left; ask again when the database was busy."""
    served = []
    asked_at = time.monotonic()
    while leases := asked_again(lambda: claim(user=user, project=project, n=1, now=now()).leases):
        granted_at = time.monotonic()
        label = partial(
            services.submit,
            user=user,
            project=project,
            key=uuid.uuid4().hex,
            lease_token=str(leases[0].token),
            class_ids=[class_id],
            now=now(),
        )
        asked_again(label)
        done_at = time.monotonic()
        served.append(Served(user.pk, leases[0].image_id, asked_at, granted_at, done_at))
        asked_at = done_at
    return served


def what_is_wrong(history: list[Served], order: list[int], *, in_flight: int) -> list[str]:
    """Return what the clients saw that must not be.

    Args:
        history: everything they were given.
        order: the images in the order of their rank; empty when it changed meanwhile.
        in_flight: how many images may be in people's hands at once.
    """
    wrong = []
    times = Counter(entry.image for entry in history)
    wrong += [f"image {image} was served {n} times" for image, n in times.items() if n > 1]
    wrong += [f"image {image} was never served" for image in order if image not in times]
    place = {image: position for position, image in enumerate(order)}
    by_time = sorted(history, key=lambda entry: entry.granted_at)
    wrong += [
        f"image {entry.image} of position {place[entry.image]} came {turn}th"
        for turn, entry in enumerate(by_time)
        if order and abs(place[entry.image] - turn) > in_flight
    ]
    return wrong


def what_is_wrong_with_overlap(history: list[Served], order: list[int], overlap: int) -> list[str]:
    """Return what clients saw that must not be where several people label each image.

    Args:
        history: everything they were given.
        order: the images in the order of their rank.
        overlap: how many people are wanted for an image.
    """
    people = {image: [entry for entry in history if entry.image == image] for image in order}
    wrong = [
        f"image {image} was served to {[entry.person for entry in served]}"
        for image, served in people.items()
        if len(served) != overlap or len({entry.person for entry in served}) != overlap
    ]
    place = {image: position for position, image in enumerate(order)}
    for entry in history:
        for better in order[: place[entry.image]]:
            # Whoever asked before this answer may have had the better image's places.
            taken = [other for other in people[better] if other.asked_at < entry.granted_at]
            if len(taken) < overlap and entry.person not in {other.person for other in taken}:
                wrong.append(f"{entry.person} got {entry.image} while {better} had a place")
    return wrong
