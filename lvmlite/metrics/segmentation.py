"""Metrics of class-id maps.

In: ids (H, W), any integer type, 0 = unlabelled. Pixels with truth 0 are left out, as ADE20K does. A
prediction of 0 on a labelled pixel is an error.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric, ratio


class MeanIoU(Metric):
    """Mean over classes of intersection / union, pixels of all pictures pooled (as for ADE20K, and in
    Painter).

    Classes found neither in truth nor in predictions on labelled pixels are left out of the mean; a class
    predicted but never true counts 0. State (3, K): per id the pixels of intersection, truth, prediction.
    """

    name = "miou"
    higher_is_better = True
    _shape = (3, 1)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        labelled = truth != 0
        p, t = prediction[labelled], truth[labelled]
        n = int(max(p.max(initial=0), t.max(initial=0))) + 1
        return np.stack([np.bincount(ids, minlength=n) for ids in (t[p == t], t, p)]).astype(np.float64)

    @staticmethod
    def value(state: np.ndarray) -> float:
        intersection, truth, prediction = state[:, 1:]
        union = truth + prediction - intersection
        seen = union > 0
        return float((intersection[seen] / union[seen]).mean()) if seen.any() else float("nan")


class PixelAccuracy(Metric):
    """Share of labelled pixels with the right id. State: right, labelled."""

    name = "pixel_accuracy"
    higher_is_better = True
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        labelled = truth != 0
        return np.array([((prediction == truth) & labelled).sum(), labelled.sum()], dtype=np.float64)

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])
