"""Seconds and memory to rank a whole pool anew, against one plain read of the same bytes.

python -m benchmarks.ranking [--images 1000000] [--peers] [--folder DIR] [--json]

The pool is one file of float16 embeddings, mapped as in the product, 1,280 numbers an image, ten
classes, 20,000 positions. Each heuristic runs three times; the best of the two warm runs counts.
``--peers`` also times modAL and scikit-activeml on sizes they can do.
"""

import argparse
import re
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.setting import finish
from ml.arrays import FloatArray
from ml.heads import LogisticHead
from ml.heuristics import HEURISTICS
from ml.ranking import Candidates, LabelledView, Ranker, RankingConfig

DIM, CLASSES, POSITIONS, BATCH, THREADS = 1280, 10, 20_000, 100, 2
HEURISTICS_TIMED = ["margin", "entropy", "variance", "diverse_margin", "badge", "k_center"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the pool's file is made")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = measure(Path(folder) / "pool.f16", options.images)
    if options.peers:
        result["peers"] = against_peers()
    finish(result, as_json=options.json)


def make_pool(file: Path, n_images: int) -> FloatArray:
    """Write a pool of random embeddings and return it mapped, (n_images, DIM) float16."""
    rng = np.random.default_rng(0)
    with file.open("wb") as opened:
        for start in range(0, n_images, 50_000):
            rows = min(50_000, n_images - start)
            block = rng.standard_normal((rows, DIM), dtype=np.float32).astype(np.float16)
            opened.write(block.tobytes())
    return np.memmap(file, dtype=np.float16, mode="r", shape=(n_images, DIM))


def plain_read(file: Path) -> float:
    """Return the seconds that reading the file once takes: no ranking can be faster."""
    words = np.memmap(file, dtype=np.uint64, mode="r")
    started = time.perf_counter()
    for start in range(0, len(words), 1 << 22):
        np.bitwise_xor.reduce(words[start : start + (1 << 22)])
    return time.perf_counter() - started


def a_head() -> LogisticHead:
    """Return a head with random weights."""
    weights = np.random.default_rng(1).normal(size=(CLASSES, DIM)).astype(np.float32) * 0.1
    return LogisticHead(weights, np.zeros(CLASSES, np.float32), np.zeros(DIM, np.float32), 1.0)


def rank(heuristic: str, pool: FloatArray) -> tuple[float, float]:
    """Rank the pool once; return wall and processor seconds."""
    ties = np.random.default_rng(2).permutation(len(pool))
    labelled = LabelledView(np.asarray(pool[:200]), np.full(CLASSES, 20))
    ranker = Ranker(RankingConfig(heuristic, BATCH), a_head(), seed=0)
    wall, cpu = time.perf_counter(), time.process_time()
    ranker.rank(Candidates.of(pool, ties), labelled, n_positions=POSITIONS)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(file: Path, n_images: int) -> dict[str, Any]:
    """Time every heuristic on the whole pool, and margin on smaller ones."""
    pool = make_pool(file, n_images)
    plain_read(file)
    read = plain_read(file)
    print(f"{n_images:,} images, {file.stat().st_size / 1e9:.2f} GB: one plain read {read:.2f} s")
    rank("margin", pool[:2_000])
    rows: dict[str, Any] = {}
    for name in HEURISTICS_TIMED:
        with MemoryWatch() as memory:
            rank(name, pool)
        wall, cpu = min(rank(name, pool) for _ in range(2))
        extra = round(memory.extra_mb)
        rows[name] = {
            "seconds": round(wall, 2), "cpu": round(cpu, 2), "reads": wall / read,
            "extra_mb": extra,
        }  # fmt: skip
        print(
            f"  {name:15} {wall:6.2f} s wall {cpu:6.2f} s cpu {wall / read:6.1f} plain reads "
            f"{extra:5} MB extra"
        )
    growth = {n: round(rank("margin", pool[:n])[0], 3) for n in sizes_up_to(n_images)}
    print(f"  margin by size of the pool: {growth}")
    return {"plain_read": read, "heuristics": rows, "growth": growth}


def sizes_up_to(n_images: int) -> list[int]:
    """Return pool sizes from ten thousand up."""
    return [n for n in (10_000, 30_000, 100_000, 300_000, 1_000_000) if n <= n_images]


class MemoryWatch:
    """The most memory the process took during a block, without mapped files, beyond the start."""

    def __enter__(self) -> "MemoryWatch":
        """Start looking every few milliseconds."""
        self._start = self._peak = own_memory()
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self._peak = max(self._peak, own_memory())

    @property
    def extra_mb(self) -> float:
        """How far the peak was above the start, in MB."""
        return (self._peak - self._start) / 1e6


def own_memory() -> int:
    """Return the memory of the process that is not mapped from files, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


# --- Peers ----------------------------------------------------------------------------------------


def against_peers() -> dict[str, Any]:
    """Time the same queries of 100 images by modAL and scikit-activeml, on equal embeddings."""
    from modAL.uncertainty import margin_sampling
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import Badge, CoreSet, UncertaintySampling
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(3)
    seen, said = rng.normal(size=(500, DIM)).astype(np.float32), rng.integers(0, CLASSES, 500)
    model = LogisticRegression(max_iter=20).fit(seen, said)
    peer = SklearnClassifier(model, classes=list(range(CLASSES))).fit(seen, said)
    queries: dict[str, tuple[int, Callable[..., Any]]] = {
        "margin": (
            100_000,
            lambda x, y: UncertaintySampling(method="margin_sampling").query(
                x, y, peer, fit_clf=False, batch_size=100
            ),
        ),
        "badge": (5_000, lambda x, y: Badge().query(x, y, peer, fit_clf=False, batch_size=100)),
        "k_center": (5_000, lambda x, y: CoreSet().query(x, y, batch_size=100)),
    }
    found: dict[str, Any] = {}
    for name, (n, query) in queries.items():
        pool = rng.normal(size=(n, DIM)).astype(np.float32)
        both, known = np.vstack([seen, pool]), np.concatenate([said, np.full(n, np.nan)])
        half = pool.astype(np.float16)
        row = {
            "images": n,
            "ours": min(rank(name, half)[0] for _ in range(2)),
            "scikit-activeml": timed(partial(query, both, known)),
        }
        if name == "margin":
            row["modAL"] = timed(partial(margin_sampling, model, pool, n_instances=100))
        found[name] = {key: round(value, 3) for key, value in row.items()}
        print(f"  100 by {name} of {n:,}: {found[name]}")
    return found


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    assert set(HEURISTICS_TIMED) <= set(HEURISTICS)
    main()
