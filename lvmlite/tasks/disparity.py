"""Disparity: how far a point moves between the two views of a stereo pair, drawn as grey, near is bright.

In: "disparity" (H, W) float pixels of the photo's width, 0 = unknown. Out: a grey picture, linear in disparity, and so
in 1 / metres; unknown is black. As data sets of stereo give it: Middlebury, KITTI, Scene Flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.images import Geometry
from lvmlite.recipe import Range
from lvmlite.tasks.base import Task
from lvmlite.tasks.grey import STEPS, draw, measure


@dataclass(frozen=True)
class DisparityConfig:
    """
    Attributes:
        annotation: the native annotation it draws.
        max_share: the disparity drawn as white, as a share of the picture's width; larger ones are drawn as it.
    """

    task: Literal["disparity"] = "disparity"
    annotation: str = "disparity"
    max_share: Annotated[float, Range(1e-3, 1)] = 0.25


class Disparity(Task):
    """`read` inverts `render` up to half a grey level, max_share * width / 446 pixels, for disparities up to
    max_share * width. Fitted disparities are in pixels of the fitted width."""

    Config: ClassVar = DisparityConfig
    metrics = ("disparity_epe", "disparity_bad3")

    def __init__(self, config: DisparityConfig) -> None:
        self.config = config
        self.annotation = config.annotation

    def fit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """The nearest pixels, (size, size) float32, multiplied by the ratio of the widths."""
        source, target = geometry.boxes(annotation.shape[:2])
        return (geometry.map(annotation) * (target[3] / source[3])).astype(np.float32)

    def unfit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """Inverse of `fit`, (H, W) float32 in pixels of the photo; 0 where "crop" cut."""
        source, target = geometry.boxes(shape)
        return (geometry.invert_map(annotation, shape) * (source[3] / target[3])).astype(np.float32)

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw pixels (H, W); 0, negative and NaN are unknown, inf is nearest."""
        known = annotation > 0
        pixels = np.where(known, annotation, 0).astype(np.float64)
        return draw(np.minimum(pixels / self._white(annotation.shape[1]), 1), known)

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Pixels (H, W) float32 up to max_share of the width, 0 where the picture is black. The darkest grey is read
        as a quarter of a level, for it is known and not 0."""
        nearness, known = measure(picture)
        pixels = np.maximum(nearness, 0.25 / STEPS) * self._white(picture.shape[1])
        return np.where(known, pixels, 0).astype(np.float32)

    def _white(self, width: int) -> float:
        return self.config.max_share * width
