"""What the tests of the client share: pictures, tokens, and the command in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from annotator.accounts import services as accounts
from annotator.accounts.models import Scope

ROOT = Path(__file__).resolve().parent.parent


def token_for(user, scope=Scope.MANAGE) -> str:
    """Return a new token of a user, where the test has the database."""
    from factories import now

    return accounts.create_token(user=user, name="test", now=now(), scope=scope).secret


def make_pictures(folder: Path, n: int, *, seed: int = 0, size: int = 40) -> list[Path]:
    """Write pictures, each of other bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{seed}-{number:04}.png" for number in range(n)]
    for path in paths:
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def annotator(*arguments: str | int | Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the command ``annotator``."""
    return subprocess.run(
        [sys.executable, "-m", "annotator_client", *map(str, arguments)],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("ANNOTATOR_")},
            "PYTHONPATH": str(ROOT / "client"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
