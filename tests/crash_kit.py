"""Does jobs in processes that end at a named place as if they were killed.

Started as a program it reads a line a job, forks, and writes how the child ended: torch is loaded
once, and never forked after its first operation.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

KILLED = 86
ROOT = Path(__file__).resolve().parent.parent


class Crasher:
    """A worker whose process can be ended at a place."""

    def __init__(self, *, data: Path, database: dict) -> None:
        if database["ENGINE"].endswith("sqlite3"):
            url = f"sqlite://{database['NAME']}"
        else:
            url = "postgres://{USER}@{HOST}:{PORT}/{NAME}".format(**database)
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "ANNOTATOR_DATA_DIR": str(data),
                "ANNOTATOR_DATABASE_URL": url,
                "DJANGO_SETTINGS_MODULE": "annotator.settings",
                "PYTHONPATH": f"{ROOT}:{ROOT / 'queue'}:{ROOT / 'tests'}",
            },
        )

    def do(self, job_id: int, place: str = "", when: str = "before", turn: int = 1) -> int:
        """Do the job in a new process and return its exit status.

        Args:
            job_id: the job.
            place: ``"module:function"`` to die at; nowhere when empty.
            when: ``before`` or ``after`` the function's work.
            turn: at which call of it.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{job_id} {place or '-'} {when} {turn}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate()


def die_at(place: str, when: str, turn: int) -> None:
    module, _, path = place.partition(":")
    *parents, name = path.split(".")
    owner = importlib.import_module(module)
    for parent in parents:
        owner = getattr(owner, parent)
    function, calls = getattr(owner, name), [0]

    def dying(*args, **kwargs):
        calls[0] += 1
        if calls[0] == turn and when == "before":
            os._exit(KILLED)
        answer = function(*args, **kwargs)
        if calls[0] == turn:
            os._exit(KILLED)
        return answer

    setattr(owner, name, dying)


def main() -> None:
    import django

    django.setup()
    from annotator.jobs import services
    from workqueue import rankings, rounds

    assert rounds
    rankings.INSERT_AT_ONCE = 10
    for line in sys.stdin:
        job_id, place, when, turn = line.split()
        child = os.fork()
        if not child:
            if place != "-":
                die_at(place, when, int(turn))
            services.run(int(job_id))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
