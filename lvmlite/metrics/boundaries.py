"""Metric of boundaries that several people drew.

In: (H, W) float in [0, 1], the share of annotators who saw a boundary in the pixel.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.edges import EdgeF1

LINE = 1 / 3 - 1e-6  # the least share that is a line; 85 of 255 is one


class BoundaryF1(EdgeF1):
    """`EdgeF1` with the tolerance of one pixel, for truth on which people disagree: lines are where a share is a third
    or more. A predicted line is right near a boundary of any annotator, as in BSDS500 (Arbelaez et al., TPAMI 2011);
    only true lines, those that a third drew, must be found. So a prediction equal to the truth counts 1. State:
    predicted pixels right, predicted, true pixels found, true."""

    name = "boundary_f1"

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        lines = prediction >= LINE
        precision = EdgeF1.measure(lines, truth > 0)
        recall = EdgeF1.measure(lines, truth >= LINE)
        return np.concatenate([precision[:2], recall[2:]])
