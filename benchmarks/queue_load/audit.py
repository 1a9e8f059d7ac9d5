"""What people saw, held against what must be: no doubles, no losses, the order of the ranking."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Entry = Mapping[str, Any]


def acknowledged(history: Iterable[Entry]) -> dict[str, tuple[int, int]]:
    """Return key -> annotation and image of every label whose answer arrived."""
    return {
        entry["key"]: (entry["got"]["annotation"], entry["got"]["image"])
        for entry in history
        if entry["op"] == "submit" and entry["status"] in {200, 201}
    }


def doubts(history: Iterable[Entry]) -> set[str]:
    """Return the keys of labels that were sent and whose answer never arrived."""
    sent = {entry["key"] for entry in history if entry["op"] == "submit"}
    return sent - set(acknowledged(history))


def grants(history: Iterable[Entry]) -> list[tuple[float, int, str, int]]:
    """Return when each lease came to whom: time, person, token, image; the first time each came."""
    known: set[str] = set()
    found = []
    for entry in sorted(history, key=lambda entry: float(entry["end"])):
        if entry["op"] != "claim" or entry["status"] != 200:
            continue
        for token, image in entry["got"]["leases"]:
            if token not in known:
                known.add(token)
                found.append((entry["end"], entry["person"], token, image))
    return found


def wrong_answers(history: Iterable[Entry], *, busy_is_wrong: bool = True) -> list[str]:
    """Return the requests the server failed at.

    Args:
        history: what people saw.
        busy_is_wrong: whether a 503 that says when to come again counts.
    """
    allowed = {200, 201, 204, 304} | (set() if busy_is_wrong else {503})
    counted = Counter(
        (entry["op"], entry["status"], str(entry["got"].get("error", "")))
        for entry in history
        if entry["status"] not in allowed
    )
    return [
        f"{n} times {op} was answered {status or 'not at all'} {error}".rstrip()
        for (op, status, error), n in counted.items()
    ]


def held_twice(history: Sequence[Entry]) -> list[str]:
    """Return images that two people surely held at the same time.

    Surely: from the answer that brought the lease to the request that ended it.
    """
    ends: dict[str, float] = {}
    for entry in history:
        if entry["op"] == "submit":
            ends.setdefault(entry["sent"]["lease"], entry["start"])
    spans: dict[int, list[tuple[float, float, int]]] = {}
    for came, person, token, image in grants(history):
        # Without a submit it was given back, the history does not tell when: its start counts.
        spans.setdefault(image, []).append((came, ends.get(token, came), person))
    wrong = []
    for image, held in spans.items():
        held.sort()
        for (_, ended, first), (came, _, second) in pairwise(held):
            if came < ended and first != second:
                wrong.append(f"image {image} was with persons {first} and {second} at once")
    return wrong


def labelled_twice(history: Sequence[Entry]) -> list[str]:
    """Return images that were labelled more than once."""
    times = Counter(image for _, image in acknowledged(history).values())
    return [f"image {image} was labelled {n} times" for image, n in times.items() if n > 1]


def out_of_order(history: Sequence[Entry], order: Sequence[int], *, in_flight: int) -> list[str]:
    """Return images that came earlier or later than their place in the ranking allows.

    Args:
        history: what people saw.
        order: the images in the order of their rank.
        in_flight: how many may be leased at once: so far may two neighbours of the ranking part.
    """
    place = {image: position for position, image in enumerate(order)}
    served = list(dict.fromkeys(image for _, _, _, image in grants(history) if image in place))
    return [
        f"image {image} of position {place[image] + 1} came {turn + 1}th"
        for turn, image in enumerate(served)
        if abs(place[image] - turn) > in_flight
    ]


def lost_or_doubled(history: Sequence[Entry], found: Mapping[str, Any]) -> list[str]:
    """Compare what people were told with what the database holds.

    Args:
        history: what people saw.
        found: ``kept`` (key -> annotation), ``current`` (annotation -> image) and ``n_new``, how
            many labels were written in the time.
    """
    told, unsure = acknowledged(history), doubts(history)
    wrong = []
    for key, (annotation, image) in told.items():
        if found["kept"].get(key) != annotation:
            wrong.append(f"label {annotation} was acknowledged, but its key gives another answer")
        if found["current"].get(annotation) != image:
            wrong.append(f"label {annotation} of image {image} was acknowledged and is lost")
    if not len(told) <= found["n_new"] <= len(told) + len(unsure):
        wrong.append(f"{found['n_new']} labels were written, {len(told)} acknowledged")
    repeated = Counter(found["current"].values())
    wrong += [f"image {image} has {n} labels" for image, n in repeated.items() if n > 1]
    return wrong
