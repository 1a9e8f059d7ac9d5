"""Labelled sets as embeddings, for the benchmarks that replay labeling."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ml import backbones, embeddings
from ml.arrays import BoolArray, FloatArray
from ml.replay import KnownSet

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "queue"))
from workqueue.oracles import LabelledFile, read_oracle  # noqa: E402

DEFAULT_DATA = ROOT.parent / "shared" / "data"
SETS = ["fashion_mnist", "cifar10", "clothing10", "cifar10_long_tail"]
PCA_DIMS = 128
TAIL = 100  # the largest class of the long tail has so many times the images of the smallest
BACKBONE = backbones.DEFAULT_BACKBONE
THREADS = 2


@dataclass(frozen=True)
class Split:
    """What is labelled and what accuracy is measured on."""

    name: str
    pool: KnownSet
    test: KnownSet
    is_balanced_accuracy: bool = False


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which sets are used."""
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ANNOTATOR_TEST_DATA", DEFAULT_DATA))
    )
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS)
    parser.add_argument("--folder", type=Path, help="a labelled folder or archive instead")
    parser.add_argument("--cifar10", type=Path, help="the folder benchmarks.cifar10 wrote")
    parser.add_argument("--cache", type=Path, help="a folder where embeddings are kept")


def load(options: argparse.Namespace) -> Iterator[Split]:
    """Yield the sets asked for; what is not there is named and left out."""
    if options.folder:
        yield of_pictures(options.folder, options.folder.stem, options.cache)
        return
    cifar10: Split | None = None
    for name in options.sets:
        source = options.data / FILES[name]
        if name.startswith("cifar10"):
            source = options.cifar10 or source
        if not source.exists():
            print(f"{name}: left out, {source.name} is not in {options.data} (see --data)")
        elif name == "fashion_mnist":
            yield fashion_mnist(source)
        elif name == "clothing10":
            yield of_pictures(source, name, options.cache)
        else:
            cifar10 = cifar10 or of_pictures(source, "cifar10", options.cache)
            yield cifar10 if name == "cifar10" else long_tail(cifar10)


FILES = {
    "fashion_mnist": "fmnist_lite0_pca128.npz",
    "cifar10": "cifar10_6k.tar",
    "cifar10_long_tail": "cifar10_6k.tar",
    "clothing10": "clothing10.tar",
}


def fashion_mnist(file: Path) -> Split:
    """Return embeddings that were computed and reduced elsewhere."""
    stored = np.load(file)
    n_classes = int(stored["ytr"].max()) + 1
    pool = KnownSet(stored["xtr"].astype(np.float32), stored["ytr"].astype(np.int64), n_classes)
    test = KnownSet(stored["xte"].astype(np.float32), stored["yte"].astype(np.int64), n_classes)
    return Split("fashion_mnist", pool, test)


def of_pictures(
    source: Path, name: str, cache: Path | None = None, *, reduce: bool = True
) -> Split:
    """Embed pictures with the product's backbone.

    Args:
        source: the labelled folder or archive.
        name: of the set.
        cache: where the embeddings are kept for the next benchmark.
        reduce: to the pool's principal axes; it only saves time, a replay fits thousands of heads.
    """
    kept = cache and cache / f"{source.stem}-{backbones.BACKBONES[BACKBONE].version}.npz"
    if not kept or not kept.exists():
        arrays = _embedded(source)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, **arrays)
    else:
        arrays = dict(np.load(kept))
    vectors, said, is_test = arrays["vectors"], arrays["said"], arrays["is_test"]
    if reduce:
        vectors = _reduced(vectors, vectors[~is_test])
    n_classes = int(said.max()) + 1
    return Split(
        name,
        KnownSet(vectors[~is_test], said[~is_test], n_classes),
        KnownSet(vectors[is_test], said[is_test], n_classes),
    )


def _embedded(source: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        files = read_oracle(source, unpack_into=Path(folder))
        backbone = backbones.load_backbone(BACKBONE, cache_dir=Path(folder) / "backbones")
        embedded = embeddings.embed_files([file.path for file in files], backbone, threads=THREADS)
    kept = [files[index] for index in embedded.kept]
    classes = sorted({file.class_name for file in kept})
    return {
        "vectors": np.asarray(embedded.vectors, dtype=np.float32),
        "said": np.array([classes.index(file.class_name) for file in kept]),
        "is_test": _test_part(kept),
    }


def _test_part(files: list[LabelledFile]) -> BoolArray:
    """Return which files are for testing: the set's own split, else every fifth."""
    marked = np.array([file.split in {"test", "validation", "val"} for file in files])
    every_fifth: BoolArray = np.arange(len(files)) % 5 == 0
    return marked if marked.any() else every_fifth


def _reduced(vectors: FloatArray, fitted_on: FloatArray) -> FloatArray:
    mean = fitted_on.mean(axis=0)
    axes = np.linalg.svd(fitted_on - mean, full_matrices=False)[2][:PCA_DIMS]
    reduced: FloatArray = ((vectors - mean) @ axes.T).astype(np.float32)
    return reduced


def long_tail(split: Split) -> Split:
    """Return a pool whose classes get rarer step by step, with balanced accuracy."""
    counts = np.bincount(split.pool.targets)
    k = len(counts)
    rng = np.random.default_rng(0)
    sizes = np.maximum(counts * TAIL ** (-np.arange(k) / (k - 1)), 1).astype(int)
    kept = np.concatenate(
        [rng.permutation(np.flatnonzero(split.pool.targets == c))[: sizes[c]] for c in range(k)]
    )
    pool = replace(
        split.pool, embeddings=split.pool.embeddings[kept], targets=split.pool.targets[kept]
    )
    return Split("cifar10_long_tail", pool, split.test, is_balanced_accuracy=True)
