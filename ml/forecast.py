"""A learning curve continued: how many labels the next point of accuracy may need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml.arrays import FloatArray

# Fewer points than these do not bend enough to be continued.
FORECAST_FROM = 4
EXPONENTS = np.linspace(0.1, 1.5, 29)
DRAWS = 200
STEP = 0.01
# Beyond so many times today's labels a forecast is no more than a guess.
HORIZON = 20.0


@dataclass(frozen=True)
class Forecast:
    """What the fitted curve expects.

    Attributes:
        labels_for_next_point: labels beyond today's for one more point of accuracy; None where the
            curve does not get there within the horizon.
        low: the tenth percentile of the same over draws of the measurements; None as above.
        high: the ninetieth percentile.
        gain: accuracy expected from 10 % more labels, 0 to 1.
        gain_high: the ninety-fifth percentile of that gain.
    """

    labels_for_next_point: int | None
    low: int | None
    high: int | None
    gain: float
    gain_high: float


def forecast(
    n_labels: Sequence[int], accuracy: Sequence[float], n_measured: Sequence[int], *, seed: int = 0
) -> Forecast | None:
    """Fit ``a - b * n ** -c`` to a learning curve and continue it.

    The range comes from curves drawn around the measured one: each point is drawn from the
    binomial distribution its measurement stands for. Points of one curve share their images, so
    the range is a rough one.

    Args:
        n_labels: shape (n_points,), rising.
        accuracy: shape (n_points,), 0 to 1.
        n_measured: shape (n_points,), images each accuracy was measured on.
        seed: of the draws.

    Returns:
        None with fewer than four different numbers of labels.

    Source: Cortes et al. (1994), "Learning curves: asymptotic values and rate of convergence"
    (the power law); Efron (1979) for the bootstrap.
    """
    x = np.asarray(n_labels, dtype=np.float64)
    y = np.asarray(accuracy, dtype=np.float64)
    sizes = np.maximum(np.asarray(n_measured, dtype=np.int64), 1)
    if len(np.unique(x)) < FORECAST_FROM:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(sizes, np.clip(y, 0.0, 1.0), size=(DRAWS, len(y))) / sizes
    needs = [_labels_needed(x, curve, sizes) for curve in drawn]
    gains = [_gain(x, curve, sizes) for curve in drawn]
    # Needs can be infinite, so the percentiles are members of the list, never between two.
    low, high = np.percentile(needs, [10, 90], method="nearest")
    return Forecast(
        labels_for_next_point=_finite(_labels_needed(x, y, sizes)),
        low=_finite(low),
        high=_finite(high),
        gain=_gain(x, y, sizes),
        gain_high=float(np.percentile(gains, 95)),
    )


def _finite(value: float) -> int | None:
    return round(value) if np.isfinite(value) else None


def _fit(x: FloatArray, y: FloatArray, weights: FloatArray) -> tuple[float, float, float]:
    """Return a, b, c of the best curve that rises (b >= 0) and stays at or below 1."""
    best = (float(np.average(y, weights=weights)), 0.0, 1.0)
    least = float((weights * (y - best[0]) ** 2).sum())
    for c in EXPONENTS:
        fallen = x**-c
        mean_f, mean_y = np.average(fallen, weights=weights), np.average(y, weights=weights)
        spread = float((weights * (fallen - mean_f) ** 2).sum())
        if spread <= 0:
            continue
        b = max(-float((weights * (fallen - mean_f) * (y - mean_y)).sum()) / spread, 0.0)
        a = min(float(mean_y + b * mean_f), 1.0)
        loss = float((weights * (y - (a - b * fallen)) ** 2).sum())
        if loss < least - 1e-12:
            best, least = (a, b, float(c)), loss
    return best


def _labels_needed(x: FloatArray, y: FloatArray, weights: FloatArray) -> float:
    a, b, c = _fit(x, y, weights)
    today = float(x[-1])
    left = a - (a - b * today**-c) - STEP
    if b <= 0 or left <= 0:
        return np.inf
    reached = (b / left) ** (1.0 / c)
    return reached - today if reached <= HORIZON * today else np.inf


def _gain(x: FloatArray, y: FloatArray, weights: FloatArray) -> float:
    _, b, c = _fit(x, y, weights)
    today = float(x[-1])
    return float(b * (today**-c - (1.1 * today) ** -c))
