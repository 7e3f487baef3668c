"""Photometric tasks: pictures derived from a photo by losing something that can be filled in again.

In: a fitted photo, uint8 RGB (H, W, 3). Out: the same photo without its colour, or with holes. The task
proper is the generative order of a pair: [grey, photo] is colourisation, [holes, photo] is inpainting; the
other order is the easy direction. As in LVM (Bai et al., CVPR 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.recipe import Range
from lvmlite.tasks.base import Task
from lvmlite.tasks.paired import Picture


@dataclass(frozen=True)
class ColourisationConfig:
    """No settings but the name."""

    task: Literal["colourisation"] = "colourisation"


class Colourisation(Task):
    """The photo in grey (luma of Rec. 601, 0.299 R + 0.587 G + 0.114 B), uint8 (H, W). `read` is the exact
    inverse of `render`; on a coloured picture it reads the luma."""

    Config: ClassVar = ColourisationConfig
    metrics = ("psnr",)

    def __init__(self, config: ColourisationConfig) -> None:
        self.config = config

    def derive(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Luma of a photo, uint8 (H, W). Draws nothing from `rng`."""
        return luma(image)

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw uint8 (H, W) as three equal channels."""
        assert annotation.ndim == 2, annotation.shape
        assert annotation.dtype == np.uint8, annotation.dtype
        return np.repeat(annotation[..., None], 3, axis=2)

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Luma, uint8 (H, W)."""
        return luma(picture)


@dataclass(frozen=True)
class InpaintingConfig:
    """
    Attributes:
        max_boxes: each photo gets 1 to max_boxes boxes.
        min_area, max_area: the share of the photo they cover together.
    """

    task: Literal["inpainting"] = "inpainting"
    max_boxes: Annotated[int, Range(1, 16)] = 3
    min_area: Annotated[float, Range(0, 1)] = 0.10
    max_area: Annotated[float, Range(0, 1)] = 0.35

    def __post_init__(self) -> None:
        if not 0 < self.min_area < self.max_area <= 1:
            raise ValueError(f"min_area {self.min_area} must be above 0 and below max_area {self.max_area}")


class Inpainting(Picture):
    """The photo with random black boxes. `read` and `render` are the identity."""

    Config: ClassVar = InpaintingConfig

    def __init__(self, config: InpaintingConfig) -> None:
        self.config = config

    def derive(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A copy of the photo, uint8 (H, W, 3), with boxes of exactly 0.

        Boxes may overlap; what counts is the share they cover together. Where a photo of a few pixels cannot
        be covered so, the nearest of 50 draws is taken.
        """
        best, best_miss = np.zeros(image.shape[:2], dtype=bool), np.inf
        height, width = image.shape[:2]
        for _ in range(50):
            mask = self._boxes(height, width, rng)
            share = mask.mean()
            miss = max(self.config.min_area - share, share - self.config.max_area, 0.0)
            if miss < best_miss:
                best, best_miss = mask, miss
            if miss == 0:
                break
        return np.where(best[..., None], np.uint8(0), image)

    def _boxes(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """One draw: bool (H, W), of boxes with aspect ratios 1/2 to 2 whose areas add up to a share in the
        range."""
        mask = np.zeros((height, width), dtype=bool)
        parts = rng.dirichlet(np.full(rng.integers(1, self.config.max_boxes + 1), 4.0))
        share = rng.uniform(self.config.min_area, self.config.max_area)
        for area in parts * share * height * width:
            stretch = 2 ** rng.uniform(-0.5, 0.5)
            h = int(np.clip(np.rint(np.sqrt(area) * stretch), 1, height))
            w = int(np.clip(np.rint(area / h), 1, width))
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            mask[top : top + h, left : left + w] = True
        return mask


def luma(picture: np.ndarray) -> np.ndarray:
    """Rec. 601 luma of uint8 RGB (H, W, 3), rounded: uint8 (H, W). Exact on equal channels."""
    r, g, b = (picture[..., c].astype(np.int32) for c in range(3))
    return ((299 * r + 587 * g + 114 * b + 500) // 1000).astype(np.uint8)
