"""Metrics of disparity.

In: (H, W) float pixels, 0 = unknown. Pixels of unknown truth (and of infinite) are left out; an unknown prediction on
the others counts as a disparity of 0.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric, ratio


def _errors(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|prediction - truth| of the pixels whose truth is known, (N,) float64."""
    known = (truth > 0) & np.isfinite(truth)
    return np.abs(prediction[known].astype(np.float64) - truth[known].astype(np.float64))


class DisparityEPE(Metric):
    """Mean end-point error in pixels of the picture that was judged. State: sum, pixels."""

    name = "disparity_epe"
    higher_is_better = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        errors = _errors(prediction, truth)
        return np.array([errors.sum(), len(errors)])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


class DisparityBad3(Metric):
    """Share of pixels that are wrong by more than 3 pixels (KITTI 2012, Geiger et al., CVPR 2012). State: wrong,
    pixels."""

    name = "disparity_bad3"
    higher_is_better = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        errors = _errors(prediction, truth)
        return np.array([(errors > 3).sum(), len(errors)], dtype=np.float64)

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])
