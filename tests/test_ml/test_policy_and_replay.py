"""When coverage ends, what a replay says, and what a curve promises."""

import numpy as np
import pytest

from ml import evaluation, forecast, replay
from ml.heuristics import HEURISTICS
from ml.policy import COLD_START, heuristic_now
from ml.replay import KnownSet, ReplayConfig, ReplayedCurve

# --- The policy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 0, 0], COLD_START),  # nothing is known
        ([19, 0, 0], COLD_START),  # within the first batch
        ([25, 0, 0], COLD_START),  # one class only
        ([15, 14, 1], COLD_START),  # a class seen once, before the second batch ends
        ([12, 10, 8], "diverse_margin"),  # every class seen twice
        ([30, 9, 1], "diverse_margin"),  # two batches are enough in any case
        ([40, 0, 0], COLD_START),  # but not for one class
    ],
)
def test_auto_covers_first_and_then_asks_where_it_is_unsure(counts, expected):
    assert heuristic_now("auto", np.array(counts), batch_size=20) == expected


@pytest.mark.parametrize("name", list(HEURISTICS))
def test_only_what_needs_a_model_waits_for_one(name):
    cold, warm = np.array([3, 0]), np.array([50, 50])
    waits = HEURISTICS[name].needs in {"probabilities", "committee"}

    assert heuristic_now(name, cold, batch_size=20) == (COLD_START if waits else name)
    assert heuristic_now(name, warm, batch_size=20) == name


def test_auto_follows_what_a_bake_off_found():
    warm = np.array([50, 50])

    assert heuristic_now("auto", warm, batch_size=20, preferred="badge") == "badge"
    assert heuristic_now("margin", warm, batch_size=20, preferred="badge") == "margin"


# --- Replays --------------------------------------------------------------------------------------


def blobs(n, seed):
    """Return images of four classes, two of which lie close together."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0, 0], [2.2, 0, 0], [20, 0, 0], [0, 20, 0]])
    said = rng.choice(4, n, p=[0.1, 0.1, 0.4, 0.4])
    return KnownSet((centres[said] + rng.normal(0, 1, (n, 3))).astype(np.float32), said, 4)


@pytest.mark.parametrize("name", ["auto", *HEURISTICS])
def test_a_replay_asks_each_image_once_and_repeats_exactly(name):
    pool, test = blobs(150, 0), blobs(100, 1)
    config = ReplayConfig(batch_size=10, n_labels=40)

    curve = replay.replay_curve(pool, test, name, seed=3, config=config)

    assert curve.n_labels == [10, 20, 30, 40]
    assert curve == replay.replay_curve(pool, test, name, seed=3, config=config)


def test_every_heuristic_of_a_seed_starts_from_the_same_labels():
    pool, test = blobs(150, 0), blobs(100, 1)
    config = ReplayConfig(batch_size=10, n_labels=20)

    first = {
        replay.replay_curve(pool, test, name, seed=5, config=config).accuracy[0]
        for name in ("random", "margin", "badge")
    }

    assert len(first) == 1


def test_several_classes_per_image_can_be_replayed():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 6)).astype(np.float32)
    targets = (vectors[:, :3] > 0).astype(np.float32)
    known = KnownSet(vectors, targets, 3, "several_classes")

    curve = replay.replay_curve(
        known, known, "auto", seed=0, config=ReplayConfig(batch_size=10, n_labels=60)
    )

    assert curve.accuracy[-1] > curve.accuracy[0]


def curves(level, wobble, n_seeds=10):
    rng = np.random.default_rng(int(level * 1000))
    return [
        ReplayedCurve([20, 40, 60], [level - 0.2, level - 0.1, level + wobble * rng.normal()])
        for _ in range(n_seeds)
    ]


def test_a_real_difference_is_called_real_and_an_accident_is_not():
    rows = replay.summarise(
        {"random": curves(0.7, 0.01), "margin": curves(0.75, 0.01), "entropy": curves(0.701, 0.09)}
    )

    found = {row.heuristic: row for row in rows}
    assert found["margin"].is_real
    assert found["margin"].against_random.wins == 10
    assert not found["entropy"].is_real
    assert rows[0].heuristic == "margin"


def test_auto_changes_only_for_a_heuristic_that_is_better_by_more_than_chance():
    clear = {"random": curves(0.7, 0.01), "auto": curves(0.72, 0.01), "badge": curves(0.76, 0.01)}
    close = clear | {"badge": curves(0.722, 0.05)}

    assert replay.better_than(replay.summarise(clear), "auto") == "badge"
    assert replay.better_than(replay.summarise(close), "auto") == ""


def test_labels_saved_is_counted_on_rising_curves_and_never_invented():
    grid = [20, 40, 60, 80, 100]
    baseline = np.array([0.5, 0.6, 0.72, 0.69, 0.7])

    # The baseline's own end is what it ever reached: 0.72.
    assert replay.labels_saved(grid, np.array([0.6, 0.73, 0.7, 0.7, 0.7]), baseline) == 0.6
    assert replay.labels_saved(grid, np.array([0.6, 0.7, 0.71, 0.71, 0.719]), baseline) is None


def test_looking_at_many_heuristics_raises_the_bar():
    # Holm: the smallest counts four times, the next three times, and none below the former.
    assert evaluation.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])


def test_ten_wins_of_ten_are_as_rare_as_the_sign_patterns_say():
    assert evaluation.sign_flip_p_value([1.0] * 10, [0.0] * 10) == pytest.approx(2 / 1024)
    assert evaluation.sign_flip_p_value([1.0, 0.0], [0.0, 1.0]) == 1.0


# --- The forecast ---------------------------------------------------------------------------------


def test_a_power_law_is_found_again():
    labels = [50, 100, 150, 200, 300, 400]
    accuracy = [0.9 - 2.0 * n**-0.5 for n in labels]

    found = forecast.forecast(labels, accuracy, [1_000_000] * 6)

    # 0.9 - 2 / sqrt(n) is one point higher at n = (2 / (0.1 - 0.01)) ** 2 = 494: 94 labels more.
    assert found.labels_for_next_point == pytest.approx(94, abs=6)
    assert found.low <= found.labels_for_next_point <= found.high
    assert found.gain == pytest.approx(0.1 - 0.1 / 1.1**0.5, abs=5e-4)


def test_a_flat_curve_promises_nothing():
    found = forecast.forecast([50, 100, 150, 200, 250], [0.8] * 5, [2_000] * 5)

    assert found.labels_for_next_point is None
    assert found.gain == pytest.approx(0, abs=1e-6)


def test_few_measured_images_make_the_range_wide():
    labels = [50, 100, 150, 200, 300, 400]
    accuracy = [0.9 - 2.0 * n**-0.5 for n in labels]

    few = forecast.forecast(labels, accuracy, [50] * 6)
    many = forecast.forecast(labels, accuracy, [5_000] * 6)

    assert few.gain_high > many.gain_high


def test_a_short_curve_is_not_continued():
    assert forecast.forecast([20, 40, 60], [0.5, 0.6, 0.7], [100] * 3) is None
    assert forecast.forecast([20] * 9, [0.5] * 9, [100] * 9) is None
