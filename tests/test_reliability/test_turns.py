"""On SQLite writers wait in a queue of their own before the lock of the database."""

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress

import pytest
from django.db import connection, transaction

from annotator.sqlite3.turns import Turn, TurnTimeoutError

SHORT_S, LONG_S = 0.3, 20.0
fork = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "database")


def hold(path, has_it, ends):
    turn = Turn(path)
    turn.take(timeout=LONG_S)
    has_it.set()
    ends.wait()
    turn.end()


@pytest.fixture
def other_process(path):
    """A process that has the turn until ``ends`` is set."""
    has_it, ends = fork.Event(), fork.Event()
    process = fork.Process(target=hold, args=(path, has_it, ends))
    process.start()
    assert has_it.wait(LONG_S)
    yield process, ends
    process.kill()
    process.join()


def test_a_turn_comes_when_the_other_process_has_ended_its_own(path, other_process):
    _, ends = other_process
    threading.Timer(SHORT_S, ends.set).start()
    began = time.monotonic()

    Turn(path).take(timeout=LONG_S)

    assert SHORT_S / 2 < time.monotonic() - began < LONG_S / 2


def test_a_holder_that_was_killed_keeps_nobody_waiting(path, other_process):
    process, _ = other_process
    os.kill(process.pid, signal.SIGKILL)

    Turn(path).take(timeout=LONG_S)


def test_who_waits_for_a_process_that_hangs_is_told_so_and_can_try_again(path, other_process):
    process, ends = other_process
    os.kill(process.pid, signal.SIGSTOP)
    turn = Turn(path)

    with pytest.raises(TurnTimeoutError):
        turn.take(timeout=SHORT_S)

    os.kill(process.pid, signal.SIGCONT)
    ends.set()
    turn.take(timeout=LONG_S)


def test_threads_of_one_process_have_it_one_after_the_other(path):
    turn = Turn(path)
    inside, most = [], []

    def write():
        for _ in range(50):
            turn.take(timeout=LONG_S)
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.0005)
            inside.pop()
            turn.end()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(most) == 200
    assert set(most) == {1}


def others_may_write():
    other = Turn(str(connection.settings_dict["NAME"]))
    try:
        other.take(timeout=0.05)
    except TurnTimeoutError:
        return False
    other.end()
    return True


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL needs no turns")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [False, True])
def test_a_transaction_has_the_turn_until_it_has_ended_well_or_not(fails):
    assert others_may_write()

    with suppress(ZeroDivisionError), transaction.atomic():
        with transaction.atomic():
            assert not others_may_write()
        assert not others_may_write()
        if fails:
            raise ZeroDivisionError

    assert others_may_write()
