"""The child process that decodes: reads one request per line, answers one line.

Started by path with an empty environment of modules: it must not import Django. Its memory and CPU
time are limited, so that a hostile file kills this process and nothing else.
"""

import ctypes
import json
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path

# A WebP of 100 megapixels with transparency, the largest we take, needs 1.7 GB.
MEMORY_LIMIT = 2048 * 1024**2
CPU_SECONDS_PER_FILE = 15
PR_SET_PDEATHSIG = 1


def limit_process() -> None:
    """Bound memory, and die with the parent (Linux)."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_next_file() -> None:
    """Give the next file its own share of CPU time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_SECONDS_PER_FILE, hard))


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    # The folder of this file holds only this app's modules; `decoding` imports nothing of Django.
    sys.path.insert(0, str(Path(__file__).parent))
    from decoding import RefusalError, decode  # type: ignore[import-not-found]

    limit_process()
    for line in sys.stdin:
        request = json.loads(line)
        limit_next_file()
        try:
            decoded = decode(
                Path(request["source"]), Path(request["display"]), Path(request["thumbnail"])
            )
            answer = {"decoded": asdict(decoded)}
        except RefusalError as refusal:
            answer = {"refused": {"code": refusal.code, "reason": refusal.reason}}
        except OSError as error:
            answer = {"failed": {"errno": error.errno or 0, "text": str(error)}}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
