"""The embedded broker: kombu's folder of message files, written so that none is read half.

kombu writes a message in place, and a worker that polls often enough reads it before it is whole;
the decoding error then ends the worker. Here a message is written beside its place and renamed.
"""

import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads


class Channel(filesystem.Channel):
    """A channel whose messages appear whole or not at all.

    A broker whose folder was lost works on: the rows of the jobs ring again.
    """

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        # Every queue of ours has an exchange of its own name; kombu's table of them may be lost.
        if exchange == routing_key:
            return [routing_key]
        return list(super()._lookup(exchange, routing_key, default))

    # kombu names this argument differently in its two classes
    def _put(self, queue: str, message: Any, **_: Any) -> None:  # type: ignore[override]
        name = f"{time.time_ns() // 1_000_000:015d}_{uuid.uuid4()}.{queue}.msg"
        place = Path(self.data_folder_out) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        building = place.with_suffix(".writing")
        building.write_text(dumps(message), encoding="utf-8")
        building.replace(place)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """Return the oldest message of a queue.

        Raises:
            Empty: there is none.
        """
        folder = Path(self.data_folder_in)
        ending = f".{queue}.msg"
        for message in sorted(folder.glob(f"*{ending}")):
            # Renaming is the claim: of two workers one succeeds.
            taken = message.with_suffix(".taken")
            try:
                message.rename(taken)
                text = taken.read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            taken.unlink(missing_ok=True)
            return loads(text)
        raise Empty


class Transport(filesystem.Transport):
    """The transport of the embedded broker."""

    Channel = Channel
