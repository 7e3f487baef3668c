"""Metric of line drawings.

In: bool (H, W), true on lines.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric


class EdgeF1(Metric):
    """Harmonic mean of precision and recall of line pixels, pooled over pictures, with one pixel of
    tolerance.

    A pixel is right if the other drawing has a line in the 3 x 3 pixels around it. Unlike the BSDS500
    benchmark, one pixel may be matched by several. 0 if one of the drawings is empty, nan if both are. State:
    predicted pixels right, predicted, true pixels found, true.
    """

    name = "edge_f1"
    higher_is_better = True
    _shape = (4,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        p, t = prediction.astype(bool), truth.astype(bool)
        return np.array([(p & _widen(t)).sum(), p.sum(), (t & _widen(p)).sum(), t.sum()], dtype=np.float64)

    @staticmethod
    def value(state: np.ndarray) -> float:
        right, predicted, found, true = state
        if predicted == 0 and true == 0:
            return float("nan")
        if right == 0 or found == 0:
            return 0.0
        precision, recall = right / predicted, found / true
        return float(2 * precision * recall / (precision + recall))


def _widen(lines: np.ndarray) -> np.ndarray:
    """Dilation by 3 x 3, bool (H, W)."""
    padded = np.pad(lines, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
