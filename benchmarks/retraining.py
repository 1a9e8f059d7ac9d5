"""Seconds to fit a head anew: 1,000 and 10,000 labels, 10 and 100 classes.

python -m benchmarks.retraining [--json]

Embeddings of 1,280 numbers around class centres, noisy enough that the classes overlap. Cold: from
nothing. Warm: from a head of 20 labels fewer, as every round after the first starts.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch

from benchmarks.setting import finish
from ml.heads import Head
from ml.training import fit_head

DIM, THREADS, REPEATS = 1280, 2, 3
HOLD = {1_000: 1.0, 10_000: 5.0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    rows = [measure(n, k) for n in HOLD for k in (10, 100)]
    finish({"rows": rows}, as_json=options.json)


def measure(n_labels: int, n_classes: int) -> dict[str, Any]:
    """Fit a few times; return the medians."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 0.35, (n_classes, DIM))
    said = rng.integers(0, n_classes, n_labels)
    vectors = (centres[said] + rng.normal(0, 1, (n_labels, DIM))).astype(np.float32)

    def fit(n: int, start_from: Head | None = None) -> Head:
        return fit_head(vectors[:n], said[:n], n_classes=n_classes, start_from=start_from)

    fit(200)
    former = fit(n_labels - 20)
    cold = [timed(lambda: fit(n_labels)) for _ in range(REPEATS)]
    warm = [timed(lambda: fit(n_labels, former)) for _ in range(REPEATS)]
    some = vectors[:500]
    apart = float(np.abs(fit(n_labels).logits(some) - fit(n_labels, former).logits(some)).max())
    row = {
        "labels": n_labels, "classes": n_classes, "cold": round(float(np.median(cold)), 3),
        "warm": round(float(np.median(warm)), 3), "hold": HOLD[n_labels], "apart": apart,
    }  # fmt: skip
    print(
        f"{n_labels:6,} labels, {n_classes:3} classes: cold {row['cold']:.2f} s, "
        f"warm {row['warm']:.2f} s (hold {row['hold']:.0f} s); logits differ by {apart:.1e}"
    )
    return row


def timed(work: Any) -> float:
    """Return the seconds of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
