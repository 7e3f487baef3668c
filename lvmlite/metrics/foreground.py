"""Metric of foreground masks.

In: (H, W) uint8 or bool, 0 = background.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric, ratio


class ForegroundIoU(Metric):
    """Mean over pictures of intersection / union of the foregrounds, as on Pascal-5i in "Visual Prompting via Image
    Inpainting" (Bar et al., NeurIPS 2022): not a mean over classes. A picture where both are empty is left out.
    State: sum, pictures."""

    name = "foreground_iou"
    higher_is_better = True
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        p, t = prediction != 0, truth != 0
        union = (p | t).sum()
        return np.array([(p & t).sum() / union, 1.0]) if union else np.zeros(2)

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])
