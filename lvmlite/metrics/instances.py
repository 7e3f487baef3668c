"""Panoptic quality: how well the segments of a picture are found ("Panoptic Segmentation", Kirillov et al., CVPR 2019).

In: maps (H, W) of segments, any integer type, 0 = none. A true and a predicted segment of one class match if they
overlap by IoU > 1/2: so each matches one at most. PQ = sum of IoU / (TP + FP / 2 + FN / 2).

State (4, classes): per class the matched pairs (TP), their sum of IoU, predicted segments without a match (FP) and
true ones (FN). The mean is over classes that have any; nan if none has.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric

_NUMBERS = 1000  # panoptic: class id * 1000 + number of the object


class PanopticQuality(Metric):
    """PQ of panoptic maps, class id * 1000 + number; mean over classes.

    As in the paper, unlabelled pixels of the truth count neither for nor against: they are left out of the IoU, and a
    predicted segment that lies in them by more than half is no false positive.
    """

    name = "pq"
    higher_is_better = True
    _shape = (4, 1)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return _count(prediction, truth, divisor=_NUMBERS, void=True)

    @staticmethod
    def value(state: np.ndarray) -> float:
        return _quality(state)


class InstancePQ(Metric):
    """PQ of maps of instances, whatever their class; their numbers need not agree. Background (0) is no segment, and
    counts as labelled."""

    name = "instance_pq"
    higher_is_better = True
    _shape = (4, 1)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return _count(prediction, truth, divisor=None, void=False)

    @staticmethod
    def value(state: np.ndarray) -> float:
        return _quality(state)


def _count(prediction: np.ndarray, truth: np.ndarray, divisor: int | None, void: bool) -> np.ndarray:
    """The state of a picture. `divisor`: what divides a segment's id to give its class; None: one class."""
    predicted, p = np.unique(prediction, return_inverse=True)
    true, t = np.unique(truth, return_inverse=True)
    overlap = np.bincount(p.ravel() * len(true) + t.ravel(), minlength=len(predicted) * len(true))
    overlap = overlap.reshape(len(predicted), len(true))
    p_area, t_area = overlap.sum(1), overlap.sum(0)
    in_void = overlap[:, true == 0].sum(1) if void else np.zeros_like(p_area)

    def classes(ids: np.ndarray) -> np.ndarray:
        return ids.astype(np.int64) // divisor if divisor else np.zeros(len(ids), dtype=np.int64)

    p_class, t_class = classes(predicted), classes(true)
    union = p_area[:, None] + t_area - overlap - in_void[:, None]
    possible = (p_class[:, None] == t_class) & (predicted != 0)[:, None] & (true != 0)
    iou = np.where(possible, overlap / np.maximum(union, 1), 0)
    matched = iou > 0.5
    p_left = (predicted != 0) & ~matched.any(1) & (2 * in_void <= p_area)
    t_left = (true != 0) & ~matched.any(0)
    pair_p, pair_t = np.nonzero(matched)
    n = int(max(p_class.max(initial=0), t_class.max(initial=0))) + 1
    rows = (
        np.bincount(t_class[pair_t], minlength=n),
        np.bincount(t_class[pair_t], weights=iou[pair_p, pair_t], minlength=n),
        np.bincount(p_class[p_left], minlength=n),
        np.bincount(t_class[t_left], minlength=n),
    )
    return np.stack(rows).astype(np.float64)


def _quality(state: np.ndarray) -> float:
    matched, iou, false, missed = state
    weight = matched + false / 2 + missed / 2
    seen = weight > 0
    return float((iou[seen] / weight[seen]).mean()) if seen.any() else float("nan")
