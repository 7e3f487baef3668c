"""Boundaries: contours that people drew, white on black, grey where they disagreed.

In: "boundaries" (H, W) float32, the share in [0, 1] of annotators who saw a boundary in the pixel. Out: a grey picture,
255 times the share. The annotation of BSDS500 (Arbelaez et al., TPAMI 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lvmlite.images import Geometry, Unreadable
from lvmlite.tasks.base import Task


@dataclass(frozen=True)
class BoundariesConfig:
    """
    Attributes:
        annotation: the native annotation it draws.
    """

    task: Literal["boundaries"] = "boundaries"
    annotation: str = "boundaries"


class Boundaries(Task):
    """`read` inverts `render` up to half a grey level, 1/510."""

    Config: ClassVar = BoundariesConfig
    metrics = ("boundary_f1",)

    def __init__(self, config: BoundariesConfig) -> None:
        self.config = config
        self.annotation = config.annotation

    def fit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """(size, size) float32, each pixel the greatest share among the pixels whose centres fall on it, so that a line
        of one pixel survives any reduction; the nearest pixel along an axis that is enlarged; 0 where padded.

        Raises:
            Unreadable: values that are no shares.
        """
        if annotation.ndim != 2 or not ((annotation >= 0) & (annotation <= 1)).all():  # so also NaN
            raise Unreadable("boundaries that are no shares between 0 and 1")
        (top, left, height, width), (y, x, h, w) = geometry.boxes(annotation.shape)
        kept = annotation[top : top + height, left : left + width]
        fitted = np.zeros((geometry.size, geometry.size), np.float32)
        fitted[y : y + h, x : x + w] = _greatest(_greatest(kept, h, 0), w, 1)
        return fitted

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw shares (H, W) in [0, 1] as three equal channels."""
        assert annotation.ndim == 2, annotation.shape
        grey = np.rint(255 * np.clip(annotation.astype(np.float64), 0, 1)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Shares (H, W) float32, from the mean of the channels."""
        return (picture.mean(axis=2) / 255).astype(np.float32)


def _greatest(x: np.ndarray, n: int, axis: int) -> np.ndarray:
    """(H, W) with `axis` brought to length n: the greatest of the values whose centres fall into each of n equal
    intervals, or if there are fewer than n values the nearest."""
    m = x.shape[axis]
    i = np.arange(n)
    if m < n:
        return x.take(((2 * i + 1) * m) // (2 * n), axis)
    return np.maximum.reduceat(x, -((n - 2 * i * m) // (2 * n)), axis)
