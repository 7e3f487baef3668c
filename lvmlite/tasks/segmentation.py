"""Segmentation: a map of class ids drawn with a palette.

In: "classes" (H, W) integer ids, 0 = unlabelled (or another annotation of ids). Out: a picture of flat
colours. Fixed palettes and reading by the nearest colour follow Painter (Wang et al., CVPR 2023) and LVM (Bai
et al., CVPR 2024). Variants draw the classes with other palettes, so that a sentence can define its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.recipe import Range
from lvmlite.sample import SPLITS
from lvmlite.tasks import palettes
from lvmlite.tasks.base import Task


@dataclass(frozen=True)
class SegmentationConfig:
    """
    Attributes:
        annotation: the native annotation of ids it draws: "classes", "instances", ...
        palette: canonical palette. "painter150": the published one, neighbouring ids 42 levels apart.
            "distinct": colours far apart, for few classes and small tokenizers.
        n_classes: ids run from 1 to n_classes; at most 150 for painter150.
        distance: how a colour read is matched to the palette; the published protocol is L1.
        variants: how many palettes a store holds; 0 is the canonical one, v > 0 is drawn.
        palette_seed: from which palettes v > 0 are drawn.
    """

    task: Literal["segmentation"] = "segmentation"
    annotation: str = "classes"
    palette: Literal["painter150", "distinct"] = "painter150"
    n_classes: Annotated[int, Range(1, 1000)] = 150
    distance: Literal["l1", "l2"] = "l1"
    variants: Annotated[int, Range(1)] = 1
    palette_seed: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        if self.palette == "painter150" and self.n_classes > palettes.PAINTER_CLASSES:
            raise ValueError(f"painter150 has 150 colours, n_classes is {self.n_classes}; use palette: distinct")


class Segmentation(Task):
    """`read` is the exact inverse of `render`."""

    Config: ClassVar = SegmentationConfig
    metrics = ("miou",)

    def __init__(self, config: SegmentationConfig) -> None:
        self.config = config
        self.annotation = config.annotation
        self.variants = config.variants
        self._tables: dict[tuple[str, int], np.ndarray] = {}

    def palette(self, variant: int = 0, split: str = "train") -> np.ndarray:
        """The table (n_classes + 1, 3) uint8 of a variant; row 0 is black. Variant 0 is one for all splits;
        drawn ones (any v > 0) share no colour of a class between splits: see `palettes.drawn`."""
        assert variant >= 0, variant
        assert split in SPLITS, split
        key = (split if variant else "", variant)
        if key not in self._tables:
            n = self.config.n_classes
            if variant:
                table = palettes.drawn(n, variant, split, self.config.palette_seed)
            else:
                table = {"painter150": palettes.painter150, "distinct": palettes.distinct}[self.config.palette](n)
            table.flags.writeable = False
            self._tables[key] = table
        return self._tables[key]

    def render(self, annotation: np.ndarray, variant: int = 0, split: str = "train") -> np.ndarray:
        """Draw ids (H, W), any integer type, 0..n_classes.

        Raises:
            ValueError: an id outside that range.
        """
        assert annotation.ndim == 2, annotation.shape
        assert annotation.dtype.kind in "iu", annotation.dtype
        for bound in (annotation.min(), annotation.max()):
            if not 0 <= bound <= self.config.n_classes:
                raise ValueError(
                    f"segmentation of '{self.annotation}': id {bound} is outside 0 to n_classes = "
                    f"{self.config.n_classes}; raise n_classes"
                )
        return palettes.paint(annotation, self.palette(variant, split))

    def read(self, picture: np.ndarray, variant: int = 0, split: str = "train") -> np.ndarray:
        """Ids (H, W) of the nearest colours, uint8 up to 255 classes, else uint16."""
        return palettes.nearest(picture, self.palette(variant, split), self.config.distance)
