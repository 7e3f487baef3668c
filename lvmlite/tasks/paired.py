"""Paired: an annotation that is a picture already, such as the stylised, the clean or the second view of a photo.

In: "target", uint8 RGB (H, W, 3) of the photo's size. Out: the same, fitted as the photo is. The pairs of style
transfer, denoising, deraining, low-light enhancement (Bai et al., CVPR 2024) and of a second view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lvmlite.images import Geometry, Unreadable
from lvmlite.tasks.base import Task


class Picture(Task):
    """A task whose annotation is a picture. `read` and `render` are the identity."""

    metrics = ("psnr",)

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """The annotation itself, uint8 (H, W, 3)."""
        assert annotation.ndim == 3, annotation.shape
        assert annotation.dtype == np.uint8, annotation.dtype
        return annotation

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """The picture itself."""
        return picture


@dataclass(frozen=True)
class PairedConfig:
    """
    Attributes:
        annotation: the native annotation it shows, a picture.
    """

    task: Literal["paired"] = "paired"
    annotation: str = "target"


class Paired(Picture):
    """`read` and `render` are the identity."""

    Config: ClassVar = PairedConfig

    def __init__(self, config: PairedConfig) -> None:
        self.config = config
        self.annotation = config.annotation

    def fit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """The picture as the photo is fitted, filter and all: uint8 (size, size, 3).

        Raises:
            Unreadable: it is no uint8 RGB picture, or not of the photo's size, so that places would not correspond.
        """
        if annotation.dtype != np.uint8 or annotation.ndim != 3 or annotation.shape[2] != 3:
            raise Unreadable("partner is no picture")
        if annotation.shape[:2] != tuple(shape):
            raise Unreadable("partner of another size")
        return geometry.image(annotation)
