"""Foreground: the objects asked for in white, everything else in black.

In: "classes" or "instances" (H, W). Out: a mask in black and white, as in the foreground segmentation of "Visual
Prompting via Image Inpainting" (Bar et al., NeurIPS 2022), which LVM is compared with on Pascal-5i.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.images import Geometry
from lvmlite.recipe import Range
from lvmlite.tasks.base import Task


@dataclass(frozen=True)
class ForegroundConfig:
    """
    Attributes:
        annotation: the native annotation of ids it draws.
        classes: the ids that are foreground; empty: every id above 0.
        exclude: ids that are not: [1] for PASCAL VOC, whose background is class 1.
    """

    task: Literal["foreground"] = "foreground"
    annotation: Literal["classes", "instances"] = "classes"
    classes: list[Annotated[int, Range(1)]] = field(default_factory=list)
    exclude: list[Annotated[int, Range(1)]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.classes and self.exclude:
            raise ValueError("classes and exclude are both given; classes alone says what is foreground")


class Foreground(Task):
    """`read` is the exact inverse of `render`. Which object or class a pixel is of, `fit` has let go."""

    Config: ClassVar = ForegroundConfig
    metrics = ("foreground_iou",)

    def __init__(self, config: ForegroundConfig) -> None:
        self.config = config
        self.annotation = config.annotation

    def fit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """Ids (h, w), any integer type -> the mask at the geometry's size: (H, W) uint8, 1 = foreground."""
        c = self.config
        mask = np.isin(annotation, c.classes) if c.classes else (annotation > 0) & ~np.isin(annotation, c.exclude)
        return geometry.map(mask.astype(np.uint8))

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw a mask (H, W), any integer type or bool: white where it is not 0."""
        assert annotation.ndim == 2, annotation.shape
        return np.repeat(np.where(annotation != 0, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Foreground (H, W) uint8: 1 where white is nearer than black in L1, else 0."""
        return (picture.sum(axis=2, dtype=np.int32) * 2 > 3 * 255).astype(np.uint8)
