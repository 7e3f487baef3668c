"""Surface normals: unit vectors drawn as colours.

In: "normals" (H, W, 3) float unit vectors in camera axes (x right, y up, z towards the camera), 0 = unknown.
Out: a picture, RGB = (n/2 + 1/2) * 255; a wall that faces the camera is (128, 128, 255). Unknown is black,
which no normal comes near: the closest, (-1, -1, -1)/sqrt(3), is 93 levels away, the closest that faces the
camera 138.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lvmlite.tasks.base import Task

_UNKNOWN_RADIUS = 64.0


@dataclass(frozen=True)
class NormalsConfig:
    """
    Attributes:
        annotation: the native annotation it draws.
    """

    task: Literal["normals"] = "normals"
    annotation: str = "normals"


class Normals(Task):
    """`read` inverts `render` up to half a grey level a channel: at most 0.4 degrees."""

    Config: ClassVar = NormalsConfig
    metrics = ("normal_angle",)

    def __init__(self, config: NormalsConfig) -> None:
        self.config = config
        self.annotation = config.annotation

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw vectors (H, W, 3) float; those shorter than 1/2, or NaN, are unknown, others are made unit."""
        length = np.linalg.norm(annotation, axis=2, keepdims=True)
        known = length >= 0.5
        unit = np.where(known, annotation, 0) / np.where(known, length, 1)
        return np.where(known, np.rint((unit * 0.5 + 0.5) * 255), 0).astype(np.uint8)

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Unit vectors (H, W, 3) float32; 0 where the colour is within 64 levels (L2) of black."""
        colour = picture.astype(np.float32)
        vector = colour / 127.5 - 1
        known = (colour**2).sum(axis=2, keepdims=True) >= _UNKNOWN_RADIUS**2
        return np.where(known, vector / np.linalg.norm(vector, axis=2, keepdims=True), np.float32(0))
