"""Metrics of depth and of surface normals.

In: depth (H, W) float metres, 0 = unknown; normals (H, W, 3) float, 0 = unknown. Pixels of unknown truth (for
depth, infinite too) are left out; unknown predictions on the others are errors, of the size each class
states.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric, ratio


def _known(depth: np.ndarray) -> np.ndarray:
    return (depth > 0) & np.isfinite(depth)


def _where_true(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true depths of the pixels whose truth is known, (N,) float64 each."""
    known = _known(truth)
    return prediction[known].astype(np.float64), truth[known].astype(np.float64)


class DepthAbsRel(Metric):
    """Mean of |prediction - truth| / truth over pixels (Eigen et al., 2014); an unknown prediction is 0
    metres, so counts 1. State: sum, pixels."""

    name = "depth_absrel"
    higher_is_better = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        p, t = _where_true(prediction, truth)
        return np.array([(np.abs(p - t) / t).sum(), len(t)])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


class DepthDelta1(Metric):
    """Share of pixels where max(prediction / truth, truth / prediction) < 1.25 (Eigen et al., 2014); an
    unknown prediction is outside. State: inside, pixels."""

    name = "depth_delta1"
    higher_is_better = True
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        p, t = _where_true(prediction, truth)
        return np.array([((p < 1.25 * t) & (t < 1.25 * p)).sum(), len(t)], dtype=np.float64)

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


class DepthAbsRelAligned(Metric):
    """`DepthAbsRel` of relative depth: per picture, scale and shift of the predicted inverse depth are first
    fitted to the true one by least squares (MiDaS, Ranftl et al., TPAMI 2022).

    The fit leaves unknown predictions out; they count 1. Fitted depths are at most the picture's greatest
    true depth. A constant prediction is fitted by a constant. State: sum, pixels.
    """

    name = "depth_absrel_aligned"
    higher_is_better = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        p, t = _where_true(prediction, truth)
        seen = _known(p)
        if not seen.any():
            return np.array([len(t), len(t)], dtype=np.float64)
        x, y, t = 1 / p[seen], 1 / t[seen], t[seen]
        dx, dy = x - x.mean(), y - y.mean()
        spread = (dx * dx).sum()
        scale = (dx * dy).sum() / spread if spread > 1e-12 * (x * x).sum() else 0.0
        fitted = 1 / np.maximum(y.mean() + scale * dx, 1 / t.max())
        return np.array([(np.abs(fitted - t) / t).sum() + (len(p) - len(t)), len(p)])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


class NormalAngle(Metric):
    """Mean angle in degrees between predicted and true directions, over pixels; an unknown prediction counts
    90. State: sum, pixels."""

    name = "normal_angle"
    higher_is_better = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        known = np.any(truth != 0, axis=2)
        p, t = prediction[known].astype(np.float64), truth[known].astype(np.float64)
        sine = np.linalg.norm(np.cross(p, t), axis=1)  # arctan2 is accurate at small angles, arccos is not
        degrees = np.degrees(np.arctan2(sine, (p * t).sum(axis=1)))
        degrees[~p.any(axis=1)] = 90.0
        return np.array([degrees.sum(), len(t)])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])
