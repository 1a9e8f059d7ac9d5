"""How many labels each heuristic saves against random order, on sets whose labels are known.

python -m benchmarks.label_efficiency [--sets …] [--folder DIR] [--seeds 10] [--plots DIR] [--json]

Twenty labels at the start, twenty a batch, to 500. A seed fixes the random start (the same for
every heuristic) and everything drawn. ``default`` is what a new project does: Auto with its own
coverage start and a tenth of the queue at random; ``auto`` is the same without the random tenth.
Ranked by the code the queue runs. Numbers are points of mean accuracy over the curve, minus
random's, paired by seed, with a 95 % t-interval; real: the sign-flip test, Holm-adjusted, is below
5 %.
"""

import argparse
import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import known_sets
from benchmarks.setting import finish
from ml import replay
from ml.heuristics import HEURISTICS
from ml.replay import ReplayConfig, ReplayedCurve, ReplayedHeuristic

DEFAULT, COVERAGE = "default", "coverage then margin"
EXPLORATION_SHARE = 0.1
DRAWN = ["default", "diverse_margin", "badge", "entropy", "random"]
LEFT_OUT = {"none"}  # a set's file order means nothing


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    known_sets.add_options(parser)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--heuristics", nargs="*", help="only these, and random and default")
    parser.add_argument("--plots", type=Path, help="a folder: one picture for each set")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)  # small fits: a second thread only waits
    tables: dict[str, Any] = {}
    for split in known_sets.load(options):
        config = ReplayConfig(
            batch_size=options.batch, n_labels=options.labels,
            balanced_accuracy=split.is_balanced_accuracy,
        )  # fmt: skip
        rows = compare(split, config, options.seeds, options.heuristics)
        print_table(split, rows)
        if options.plots:
            plot(rows, split, options.plots / f"label-efficiency-{split.name}.svg")
        tables[split.name] = [dataclasses.asdict(row) | {"is_real": row.is_real} for row in rows]
    finish(tables, as_json=options.json)


def policies(config: ReplayConfig, only: list[str] | None) -> dict[str, tuple[str, ReplayConfig]]:
    """Return what is compared: name -> heuristic and how it runs."""
    own_start = replace(config, random_start=False)
    found = {
        DEFAULT: ("auto", replace(own_start, exploration_share=EXPLORATION_SHARE)),
        "auto": ("auto", own_start),
        COVERAGE: ("margin", own_start),
    }
    found |= {name: (name, config) for name in HEURISTICS if name not in LEFT_OUT}
    if only is None:
        return found
    return {name: found[name] for name in dict.fromkeys([DEFAULT, replay.BASELINE, *only])}


def compare(
    split: known_sets.Split, config: ReplayConfig, n_seeds: int, only: list[str] | None
) -> list[ReplayedHeuristic]:
    """Replay every policy with every seed."""
    curves: dict[str, list[ReplayedCurve]] = {}
    for name, (heuristic, how) in policies(config, only).items():
        curves[name] = [
            replay.replay_curve(split.pool, split.test, heuristic, seed=seed, config=how)
            for seed in range(n_seeds)
        ]
        print(f"  {split.name}: {name} done", flush=True)
    return replay.summarise(curves)


def print_table(split: known_sets.Split, rows: list[ReplayedHeuristic]) -> None:
    """Print one set's table, the best first."""
    random = next(row for row in rows if row.heuristic == replay.BASELINE)
    measure = "balanced accuracy" if split.is_balanced_accuracy else "accuracy"
    print(
        f"\n{split.name}: pool {len(split.pool):,}, test {len(split.test):,}; random: mean "
        f"{measure} {random.area:.2%}, at the end {random.mean[-1]:.2%}"
    )
    for row in rows:
        if row is random:
            continue
        gain = row.against_random
        saved = "never reached" if row.labels_saved is None else f"{row.labels_saved:.0%} saved"
        verdict = ("better" if gain.mean > 0 else "WORSE") if row.is_real else "no real difference"
        print(
            f"  {row.heuristic:22} {100 * gain.mean:+6.2f} [{100 * gain.low:+6.2f}, "
            f"{100 * gain.high:+6.2f}] wins {gain.wins:2}/{gain.n} {saved:15} {verdict}"
        )


def plot(rows: list[ReplayedHeuristic], split: known_sets.Split, file: Path) -> None:
    """Draw the mean curves of some heuristics."""
    from workqueue.curve_plot import Line, draw_curves

    lines = [Line(row.heuristic, row.n_labels, row.mean) for row in rows if row.heuristic in DRAWN]
    measure = "balanced accuracy" if split.is_balanced_accuracy else "accuracy"
    title = f"{split.name}: mean of {rows[0].against_random.n} seeds"
    file.write_text(draw_curves(lines, title=title, x_title="labels", y_title=measure))


if __name__ == "__main__":
    main()
