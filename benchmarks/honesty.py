"""How often the interval shown to the lead contains the true accuracy: about 95 % is honest.

python -m benchmarks.honesty [--sets …] [--folder DIR] [--seeds 40] [--json]

Runs the default policy as ``label_efficiency`` does. After every hundred labels accuracy is
measured as a round does it: out of fold, on the labelled images at the head of the random list,
with a Wilson interval. True is the accuracy of the served head on the test set, which no run ever
sees. Beside it stands what a naive tool shows: cross-validation on all labels.
"""

import argparse
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from benchmarks import known_sets
from benchmarks.label_efficiency import EXPLORATION_SHARE
from benchmarks.setting import finish
from ml import evaluation, replay
from ml.arrays import BoolArray
from ml.replay import Point, ReplayConfig

EVERY, FOLDS, MEASURE_FROM = 100, 5, 10


@dataclass
class Tally:
    """What was shown and what was true, over all points."""

    shown: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    known_sets.add_options(parser)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    for split in known_sets.load(options):
        tally = run(replace(split, is_balanced_accuracy=False), options.seeds)
        row = {
            "points": len(tally.covered),
            "covered": float(np.mean(tally.covered)),
            "bias": float(np.mean(np.array(tally.shown) - tally.true)),
            "naive_bias": float(np.mean(np.array(tally.naive) - tally.true)),
            "measured_on": float(np.mean(tally.sizes)),
        }
        low, high = evaluation.wilson_interval(sum(tally.covered), len(tally.covered))
        print(
            f"{split.name}: true accuracy inside the interval in {row['covered']:.1%} of "
            f"{row['points']} cases ({low:.0%} to {high:.0%}); shown minus true "
            f"{100 * row['bias']:+.1f} points on {row['measured_on']:.0f} images; "
            f"cross-validation on all labels {100 * row['naive_bias']:+.1f} points",
            flush=True,
        )
        result[split.name] = row
    finish(result, as_json=options.json)


def run(split: known_sets.Split, n_seeds: int) -> Tally:
    """Replay the default policy and compare after every hundred labels."""
    tally = Tally()
    config = ReplayConfig(
        batch_size=20, n_labels=500, random_start=False, exploration_share=EXPLORATION_SHARE
    )

    def look(point: Point) -> None:
        if len(point.labelled) % EVERY:
            return
        measured = in_sample(point)
        if measured.sum() < MEASURE_FROM:
            return
        report = measure(split, point, measured)
        truth = float(
            (point.head.logits(split.test.embeddings).argmax(1) == split.test.targets).mean()
        )
        tally.shown.append(report.accuracy)
        tally.true.append(truth)
        tally.covered.append(report.low <= truth <= report.high)
        tally.sizes.append(report.n)
        tally.naive.append(measure(split, point, np.ones(len(measured), dtype=bool)).accuracy)

    for seed in range(n_seeds):
        replay.replay_curve(split.pool, split.test, "auto", seed=seed, config=config, on_point=look)
    return tally


def in_sample(point: Point) -> BoolArray:
    """Return which labelled rows stand before the first open one of the random list."""
    is_open = np.ones(len(point.random_list), dtype=bool)
    is_open[point.labelled] = False
    gap = point.random_list[is_open].min(initial=len(point.random_list))
    found: BoolArray = point.random_list[point.labelled] < gap
    return found


def measure(
    split: known_sets.Split, point: Point, measured: BoolArray
) -> evaluation.AccuracyReport:
    """Measure out of fold on some of the labelled rows, as a round does."""
    targets = split.pool.targets[point.labelled]
    logits = evaluation.out_of_fold(
        split.pool.embeddings[point.labelled], targets, measured,
        n_classes=split.pool.n_classes, kind=split.pool.kind, folds=FOLDS, seed=0,
    )  # fmt: skip
    return evaluation.accuracy_report(logits, targets[measured], kind=split.pool.kind)


if __name__ == "__main__":
    main()
