"""What an answer is worth that ignores the query: constants computed on train.

In: train annotations of one kind. Out: one annotation to be scored against every query.

By the kind's first metric: the most frequent class or segment (mIoU, PQ), the median of known metres or pixels (depth,
disparity), the mean direction (normals), lines or foreground where they are as frequent as anywhere (edges, boundaries,
masks), the mean value (pictures). Lists of boxes or joints have no constant: copying the prompt is their floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def _classes(stack: np.ndarray) -> np.ndarray:
    ids = np.unique(stack)
    ids = ids[ids != 0]  # unlabelled is never an answer
    if not len(ids):
        return np.zeros(stack.shape[1:], stack.dtype)
    best = np.stack([(stack == i).sum(0) for i in ids]).argmax(0)
    return np.asarray(ids[best])


def _depth(stack: np.ndarray) -> np.ndarray:
    known = np.sort(np.where((stack > 0) & np.isfinite(stack), stack, np.inf), axis=0)
    n = np.isfinite(known).sum(0)
    median = np.take_along_axis(known, np.maximum(n - 1, 0)[None] // 2, axis=0)[0]
    return np.where(n > 0, median, 0).astype(stack.dtype)


def _directions(stack: np.ndarray) -> np.ndarray:
    total = stack.astype(np.float64).sum(0)
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    return (total / np.where(length > 0, length, 1)).astype(np.float32)


def _lines(stack: np.ndarray) -> np.ndarray:
    return np.asarray(stack.mean(0) >= stack.mean()).astype(stack.dtype)


def _values(stack: np.ndarray) -> np.ndarray:
    return np.rint(stack.mean(0)).astype(stack.dtype)


_RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "miou": _classes,
    "instance_pq": _classes,
    "pq": _classes,
    "foreground_iou": _lines,
    "depth_absrel": _depth,
    "depth_absrel_aligned": _depth,
    "normal_angle": _directions,
    "disparity_epe": _depth,
    "edge_f1": _lines,
    "boundary_f1": _lines,
    "psnr": _values,
}


def constants(metric: str, annotations: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Two floors: "constant", one value everywhere; "constant per pixel", one for each place. {} if no rule is known.

    Args:
        metric: the kind's first.
        annotations: of train, (H, W) or (H, W, C), all of one shape.
    """
    if metric not in _RULES:
        return {}
    rule, stack = _RULES[metric], np.stack(annotations)
    per_pixel, single = rule(stack), rule(stack.reshape(-1, *stack.shape[3:]))
    return {"constant": np.broadcast_to(single, per_pixel.shape), "constant per pixel": per_pixel}
