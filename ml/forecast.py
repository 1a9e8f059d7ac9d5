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
    curves = _fitted(x, np.vstack([y, drawn]), sizes.astype(np.float64))
    needs, gains = curves.labels_needed(x[-1]), curves.gain(x[-1])
    # Needs can be infinite, so the percentiles are members of the list, never between two.
    low, high = np.percentile(needs[1:], [10, 90], method="nearest")
    return Forecast(
        labels_for_next_point=_finite(needs[0]),
        low=_finite(low),
        high=_finite(high),
        gain=float(gains[0]),
        gain_high=float(np.percentile(gains[1:], 95)),
    )


def _finite(value: float) -> int | None:
    return round(value) if np.isfinite(value) else None


@dataclass(frozen=True)
class _Curves:
    """Curves ``a - b * n ** -c``; b and c tell what is still to come. Shape (n_curves,) each."""

    b: FloatArray
    c: FloatArray

    def labels_needed(self, today: float) -> FloatArray:
        """Return the labels beyond today's for one more point; infinite beyond the horizon."""
        left = self.b * today**-self.c - STEP
        rises = left > 0
        reached = np.full(len(self.b), np.inf)
        np.power(self.b / np.where(rises, left, 1.0), 1.0 / self.c, out=reached, where=rises)
        return np.where(reached <= HORIZON * today, reached - today, np.inf)

    def gain(self, today: float) -> FloatArray:
        """Return the accuracy that 10 % more labels should bring."""
        return self.b * (today**-self.c - (1.1 * today) ** -self.c)


def _fitted(x: FloatArray, y: FloatArray, weights: FloatArray) -> _Curves:
    """Fit every row of y by weighted least squares: curves that rise and stay at or below 1.

    For a given exponent the best a and b follow directly; the exponents are tried one by one.

    Args:
        x: shape (n_points,).
        y: shape (n_curves, n_points).
        weights: shape (n_points,).
    """
    share = weights / weights.sum()
    mean_y = y @ share
    b, c = np.zeros(len(y)), np.ones(len(y))
    least = ((y - mean_y[:, None]) ** 2) @ share
    for exponent in EXPONENTS:
        fallen = x**-exponent
        around = fallen - fallen @ share
        slope = np.maximum(-(y @ (share * around)) / (around**2 @ share), 0.0)
        top = np.minimum(mean_y + slope * (fallen @ share), 1.0)
        loss = ((y - (top[:, None] - slope[:, None] * fallen)) ** 2) @ share
        better = loss < least - 1e-12
        b, c = np.where(better, slope, b), np.where(better, exponent, c)
        least = np.where(better, loss, least)
    return _Curves(b, c)
