"""Metrics of boxes.

In: (N, 6) float x0, y0, x1, y1, class id, number of the object (not looked at); N of prediction and truth may differ.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric, ratio

_MATCH = 0.5  # PASCAL VOC's least IoU (Everingham et al., 2010)


class BoxF1(Metric):
    """Harmonic mean of precision and recall of boxes, pooled over pictures; nan if there are none.

    A predicted box is right if it overlaps a true box of its class by IoU >= 1/2; pairs are matched one to one, the
    greatest IoU first. State: right (TP), other predicted boxes (FP), other true boxes (FN).
    """

    name = "box_f1"
    higher_is_better = True
    same_shape = False
    _shape = (3,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        overlap = np.where(prediction[:, None, 4] == truth[:, 4], iou(prediction, truth), 0)
        right = 0
        while overlap.size and overlap.max() >= _MATCH:
            p, t = np.unravel_index(overlap.argmax(), overlap.shape)
            overlap[p], overlap[:, t] = 0, 0
            right += 1
        return np.array([right, len(prediction) - right, len(truth) - right], dtype=np.float64)

    @staticmethod
    def value(state: np.ndarray) -> float:
        right, false, missed = state
        return ratio(2 * right, 2 * right + false + missed)


class BoxIoU(Metric):
    """Mean over pictures of the IoU of the largest predicted box and the largest true one, whatever their class: the
    detection of one object, as judged in "Visual Prompting via Image Inpainting" (Bar et al., NeurIPS 2022).

    No predicted box counts 0; pictures without a true box are left out. State: sum, pictures.
    """

    name = "box_iou"
    higher_is_better = True
    same_shape = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        if not len(truth):
            return np.zeros(2)
        if not len(prediction):
            return np.array([0.0, 1.0])
        return np.array([iou(_largest(prediction), _largest(truth))[0, 0], 1.0])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection / union of boxes (N, 4 or more) and (M, 4 or more): (N, M) float64, 0 for empty boxes."""
    a, b = a[:, None, :4].astype(np.float64), b[:, :4].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.maximum(sides, 0).prod(-1)
    union = _area(a) + _area(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = np.maximum(boxes[..., 2:4] - boxes[..., :2], 0).prod(-1)
    return area


def _largest(boxes: np.ndarray) -> np.ndarray:
    """The box of the greatest area, (1, 6); of equals the first."""
    return boxes[[_area(boxes).argmax()]]
