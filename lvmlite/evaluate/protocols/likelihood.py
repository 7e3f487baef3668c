"""Arithmetic on log likelihoods: nats per token, who wins among candidates, and intervals of shares.

In: log p of tokens as the engine gives them. Out: numbers for tables.

Legend: G groups (scenes, tables), S codes of a picture.
"""

from __future__ import annotations

import math

import numpy as np

from lvmlite.metrics import proportion_interval

TIE = 1e-6  # nats; scores nearer than this are equal


def credit(scores: np.ndarray, true: int) -> float:
    """1 if candidate `true` alone has the greatest of scores (C,), 1/m if it shares it with m - 1 others, else 0.

    So that a model that cannot tell candidates apart scores chance exactly.
    """
    best = scores >= scores.max() - TIE
    return float(best[true] / best.sum())


def nats(logp: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean -log p over the first row of tokens, and over the rest: (..., S) -> two (...).

    The first row is apart because under teacher forcing the first tokens reveal the task.
    """
    return -logp[..., :columns].mean(-1), -logp[..., columns:].mean(-1)


def share(credits: np.ndarray) -> tuple[float, float, float]:
    """Share of trials won and its 95% interval, where the trials of a group depend on one another.

    Wilson's interval at the effective number of trials (Korn and Graubard 1998): the p (1 - p) / n that gives the
    variance seen between groups; never more than there are trials, nor fewer than there are groups, which it is
    where all trials agree.

    Args:
        credits: (G, trials), each in [0, 1].

    Returns:
        (share, low, high).
    """
    groups, trials = credits.shape
    means = credits.mean(1)
    p = float(means.mean())
    n = float(groups)
    if groups > 1 and 0 < p < 1:
        variance = float(means.var(ddof=1)) / groups
        n = min(float(groups * trials), max(n, p * (1 - p) / variance if variance > 0 else math.inf))
    low, high = proportion_interval(p * n, n)
    return p, low, high
