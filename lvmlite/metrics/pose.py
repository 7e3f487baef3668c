"""Metrics of joints and of points.

In: lists of people (N, K, 3), or the points of one object (K, 3): x, y in pixels, visibility; a point of visibility 0
is not there. Prediction and truth may hold different numbers of people.

Both are the percentage of correct keypoints: those within a tenth of the greater side of the box around the true
points (PCK@0.1, Yang and Ramanan, TPAMI 2013), and never less than a pixel, which is what a drawing can tell.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric, ratio

_SHARE = 0.1


def _extent(points: np.ndarray) -> float:
    """Greater side of the box around the points (K, 3) that are there; 0 if none is."""
    seen = points[points[:, 2] > 0, :2]
    return float(np.ptp(seen, axis=0).max()) if len(seen) else 0.0


class PCK(Metric):
    """Share of true joints, labelled as visible or hidden, that are predicted near their place.

    Each true person is matched to one predicted, pairs of the least mean distance first; the distance is measured in
    the person's own extent and counts at most 1, as does a missing joint. Joints of people or of kinds that are missing
    are wrong; joints predicted beyond those are not counted. State: right, true.
    """

    name = "pck"
    higher_is_better = True
    same_shape = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        there = truth[..., 2] > 0
        right = np.zeros((len(truth), len(prediction)))
        cost = np.ones((len(truth), len(prediction)))
        for i in np.flatnonzero(there.any(axis=1)):
            gap = np.linalg.norm(prediction[:, there[i], :2].astype(np.float64) - truth[i, there[i], :2], axis=2)
            gap[~(prediction[:, there[i], 2] > 0)] = np.inf
            extent = max(_extent(truth[i]), 1 / _SHARE)
            right[i] = (gap <= _SHARE * extent).sum(axis=1)
            cost[i] = np.minimum(gap / extent, 1).mean(axis=1)
        free_truth, free_prediction = np.ones(len(truth), bool), np.ones(len(prediction), bool)
        total = 0.0
        for i, j in zip(*np.unravel_index(np.argsort(cost, axis=None, kind="stable"), cost.shape)):
            if free_truth[i] and free_prediction[j]:
                free_truth[i] = free_prediction[j] = False
                total += right[i, j]
        return np.array([total, there.sum()])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


class PointPCK(Metric):
    """Share of points that are shown right: near their place, or, where they are not in the picture, not at all.

    Prediction and truth are (K, 3) of one object, the extent being that of all its true points; a visibility below 0 in
    the prediction says that the picture is not about this point, which is then not counted. State: right, points.
    """

    name = "point_pck"
    higher_is_better = True
    same_shape = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        k = min(len(prediction), len(truth))
        p, t = prediction[:k].astype(np.float64), truth[:k].astype(np.float64)
        gap = np.linalg.norm(p[:, :2] - t[:, :2], axis=1)
        near = gap <= _SHARE * max(_extent(truth), 1 / _SHARE)
        shown, there, asked = p[:, 2] > 0, t[:, 2] > 0, p[:, 2] >= 0
        right = asked & (shown == there) & (near | ~there)
        return np.array([right.sum(), asked.sum()], dtype=np.float64)

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])
