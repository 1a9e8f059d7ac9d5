"""The newest Label Studio of the package index, in a virtual environment of its own."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NAME = "label-studio"
REASON_LINES = 3


class NotInstallableError(Exception):
    """Label Studio cannot be had here; the text says what is missing."""


@dataclass(frozen=True)
class Program:
    """An installed Label Studio.

    Attributes:
        file: to start it with.
        version: which one it is.
    """

    file: Path
    version: str


def newest_installed(cache: Path) -> Program:
    """Return the newest Label Studio, installed below the cache folder unless it is there already.

    Raises:
        NotInstallableError: the package index does not answer or a package is missing.
    """
    version = newest_version(_pip("index", "versions", NAME))
    folder = cache.resolve() / f"{NAME}-{version}"
    program = Program(folder / "bin" / NAME, version)
    # Written last: a folder without it was left by an installation that broke off.
    done = folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        _pip("--python", str(folder / "bin" / "python"), "install", "-q", f"{NAME}=={version}")
        done.touch()
    return program


def newest_version(listed: str) -> str:
    """Return the newest version of what ``pip index versions`` has printed.

    Raises:
        NotInstallableError: it names none.
    """
    found = re.match(rf"{NAME} \(([^)]+)\)", listed)
    if found is None:
        raise NotInstallableError(f"pip names no version of {NAME}: {listed[:200]!r}")
    return found[1]


def _pip(*arguments: str) -> str:
    """Run this Python's pip and return what it prints."""
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = "\n".join(done.stderr.strip().splitlines()[-REASON_LINES:])
        raise NotInstallableError(f"pip {' '.join(arguments)} failed:\n{reason}")
    return done.stdout
