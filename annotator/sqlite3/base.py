"""Django's SQLite backend, with a queue before the write lock.

SQLite lets one transaction write at a time. Who finds the lock taken sleeps and looks again, up
to a tenth of a second later and in no order: with a few dozen people the lock lies idle much of the
time, and some wait for many seconds. Here a transaction first takes its turn, among the threads of
the process and then among the processes, and is woken as soon as the one before it has ended.
"""

from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from annotator.sqlite3.turns import Turn, TurnTimeoutError, turn_of


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose write transactions wait for their turn.

    The overridden methods are Django's hooks for other backends; its type stubs leave them out.
    """

    _turn: Turn | None = None

    def _start_transaction_under_autocommit(self) -> None:
        if self._turn is None and self.transaction_mode == "IMMEDIATE":  # type: ignore[attr-defined]
            self._turn = self._take_turn()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._end_turn()
            raise

    def _take_turn(self) -> Turn | None:
        if self.is_in_memory_db():
            return None
        turn = turn_of(str(self.settings_dict["NAME"]))
        try:
            turn.take(timeout=self.settings_dict["OPTIONS"].get("timeout", 5.0))
        except TurnTimeoutError as error:
            # What SQLite itself says after its timeout.
            raise OperationalError("database is locked") from error
        return turn

    def _end_turn(self) -> None:
        # A commit that failed leaves the transaction open: the turn ends with its rollback.
        if self._turn and not (self.connection and self.connection.in_transaction):
            turn, self._turn = self._turn, None
            turn.end()

    def _commit(self) -> Any:
        try:
            return super()._commit()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _rollback(self) -> Any:
        try:
            return super()._rollback()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _close(self) -> Any:
        try:
            return super()._close()  # type: ignore[misc]
        finally:
            turn, self._turn = self._turn, None
            if turn:
                turn.end()
