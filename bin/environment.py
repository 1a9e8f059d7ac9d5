"""The virtual environment: made once, brought up to date when a lock file changes. Stdlib only."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
TORCH = "torch.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NEEDED_BYTES = 4 * 1024**3


class SetupError(Exception):
    """Set-up cannot go on; the text says what to do."""


def say(sentence: str) -> None:
    """Print one calm line."""
    print(sentence, flush=True)


def check_machine() -> None:
    """Refuse a machine on which the rest would fail later with a worse message.

    Raises:
        SetupError: Python is too old, the disk too full or the system not supported.
    """
    if sys.version_info < (3, 11):
        raise SetupError(f"Python 3.11 or newer is needed; this is {platform.python_version()}.")
    if os.name != "posix":
        raise SetupError("This system is not supported. On Windows, use WSL 2.")
    if not PYTHON.exists() and shutil.disk_usage(ROOT).free < NEEDED_BYTES:
        raise SetupError("About 4 GB of free disk are needed for the Python packages.")


def stamp_of(*files: Path) -> str:
    """Return a hash of the files' contents."""
    digest = hashlib.sha256(platform.python_version().encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def ensure_venv() -> None:
    """Make the virtual environment.

    Raises:
        SetupError: Python lacks the module for it.
    """
    if PYTHON.exists():
        return
    say("Making the virtual environment (.venv)")
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            "Python cannot make a virtual environment. On Debian or Ubuntu: "
            "sudo apt install python3-venv\n" + made.stdout[-500:] + made.stderr[-500:]
        )


def ensure_packages(*, with_tests: bool = False) -> None:
    """Install what the lock files name, unless that was done already."""
    ensure_venv()
    for lock in ["web.lock", "ml.lock", *(["dev.lock"] if with_tests else [])]:
        _ensure(lock, lambda lock=lock: pip("--require-hashes", "-r", str(REQUIREMENTS / lock)))
    _ensure(TORCH, _install_torch)


def _ensure(name: str, install: Callable[[], None]) -> None:
    stamp = VENV / f".installed-{name}"
    wanted = stamp_of(REQUIREMENTS / name)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    say(f"Installing the packages of requirements/{name} …")
    install()
    stamp.write_text(wanted)
    say(f"  done in {time.monotonic() - started:.0f} s")


def torch_kind(*, has_gpu: bool, system: str) -> str:
    """Return which build of torch suits this machine: ``cpu``, ``cuda`` or ``default``."""
    if system != "Linux":
        return "default"
    return "cuda" if has_gpu or os.environ.get("ANNOTATOR_TORCH") == "cuda" else "cpu"


def _install_torch() -> None:
    """Install the pinned torch and torchvision in the build that suits this machine.

    Raises:
        SetupError: the CPU build cannot be had.
    """
    torch, vision = (REQUIREMENTS / TORCH).read_text().split()
    kind = torch_kind(has_gpu=bool(shutil.which("nvidia-smi")), system=platform.system())
    if kind == "cpu":
        say("  torch: CPU build, about 0.2 GB")
        _install_cpu_torch(torch)
    else:
        say("  torch: CUDA build, about 3 GB" if kind == "cuda" else "  torch: this system's build")
        pip(torch)
    # torchvision's own requirement could pull another torch; ml copes with its CUDA build.
    pip("--no-deps", vision)


def _install_cpu_torch(torch: str) -> None:
    try:
        # A wheel that pip's own configuration offers wins over the download.
        pip("--no-deps", f"{torch}+cpu")
    except SetupError:
        try:
            pip("--no-deps", "--index-url", CPU_INDEX, f"{torch}+cpu")
        except SetupError as error:
            raise SetupError(
                f"The CPU build of torch could not be had from {CPU_INDEX}. Connect this machine, "
                "or set ANNOTATOR_TORCH=cuda to take the 3 GB build from PyPI.\n" + str(error)
            ) from error


def pip(*arguments: str) -> None:
    """Run pip install quietly.

    Raises:
        SetupError: it failed; the end of its output is in the text.
    """
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SetupError(
            f"pip could not install {' '.join(arguments)}. Is this machine connected?\n"
            + "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        )
