"""Intervals: how far a number may be from what more data would give.

In: metrics counted per group, a proportion, or paired differences. Out: 95% intervals. What each covers:
`bootstrap`, other groups (scenes, photos); `proportion_interval`, other independent trials; `mean_interval`,
other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from lvmlite.metrics.base import Metric

_CELLS = 1 << 22  # resamples x groups drawn at a time: 64 MB


def bootstrap(states: Sequence[Metric], n: int = 1000, seed: int = 0, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of a metric over groups: groups are drawn with replacement, their states added, the
    metric computed anew (for mIoU from the pooled counts, not as a mean of per-group values).

    Args:
        states: one metric per group, all of one class; a split keeps a group together, so groups are
            independent.
        n: resamples.
        seed: of the draws; metrics with groups in the same order are resampled alike.
        confidence: in (0, 1).

    Returns:
        (low, high); both nan with fewer than two groups, or where every resample is empty.
    """
    if len(states) < 2:
        return math.nan, math.nan
    last = max(metric.state.shape[-1] for metric in states)
    table = np.zeros((len(states), *states[0].state.shape[:-1], last))
    for row, metric in zip(table, states):
        assert type(metric) is type(states[0]), "one metric at a time"
        row[..., : metric.state.shape[-1]] = metric.state
    rng = np.random.default_rng(seed)
    shares = np.full(len(states), 1 / len(states))
    flat = table.reshape(len(states), -1)
    values: list[float] = []
    for start in range(0, n, step := max(1, _CELLS // len(states))):
        times = rng.multinomial(len(states), shares, size=min(step, n - start)).astype(np.float64)
        values += [states[0].value(total.reshape(table.shape[1:])) for total in times @ flat]
    kept = np.array(values)
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return math.nan, math.nan
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def proportion_interval(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of k successes in n independent trials, which may be fractions; (0, 1) for none.

    Raises:
        ValueError: k is not in 0..n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, zz = k / n, z * z / n
    centre = (p + zz / 2) / (1 + zz)
    half = math.sqrt(p * (1 - p) * zz + zz * zz / 4) / (1 + zz)
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def mean_interval(x: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of a sample by Student's t; give it paired differences for a paired interval.

    One value has no interval: low and high are nan.

    Raises:
        ValueError: no value.
    """
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"expected a list of at least one number, got shape {values.shape}")
    mean = float(values.mean())
    if len(values) == 1:
        return mean, math.nan, math.nan
    half = t_quantile(confidence, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def t_quantile(confidence: float, degrees: int) -> float:
    """The t for which Student's t with `degrees` >= 1 lies in [-t, t] with probability `confidence`.

    t = sqrt(degrees) tan(theta) by bisection on theta; the probability is a finite sum for whole degrees
    (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    assert 0 < confidence < 1, confidence
    assert degrees >= 1, degrees
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        theta = (low + high) / 2
        if _t_probability(theta, degrees) < confidence:
            low = theta
        else:
            high = theta
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _t_probability(theta: float, degrees: int) -> float:
    """P(|t| <= sqrt(degrees) tan(theta))."""
    square, odd = math.cos(theta) ** 2, degrees % 2
    if degrees == 1:
        return 2 * theta / math.pi
    i = np.arange(1, (degrees - odd) // 2)
    factors = square * (2 * i / (2 * i + 1) if odd else (2 * i - 1) / (2 * i))
    series = 1 + float(np.cumprod(factors).sum())
    if odd:
        return 2 / math.pi * (theta + math.sin(theta) * math.cos(theta) * series)
    return math.sin(theta) * series
