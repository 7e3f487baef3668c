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
from lvmlite.tasks import palettes
from lvmlite.tasks.base import Task


@dataclass(frozen=True)
class SegmentationConfig:
    """
    Attributes:
        annotation: the native annotation of ids it draws: "classes", "instances", ...
        palette: canonical palette. "painter150": the published one, neighbouring ids 42 levels apart. "distinct":
            colours far apart, for few classes and small tokenizers. "ade20k", "cityscapes", "voc": the data sets' own.
            Else the path of a JSON file: a list of [red, green, blue], one for each class.
        n_classes: ids run from 1 to n_classes. Default: as many as the palette has colours, 150 for "distinct".
        distance: how a colour read is matched to the palette; the published protocol is L1.
        variants: how many palettes a store holds; 0 is the canonical one, v > 0 is drawn.
        palette_seed: from which palettes v > 0 are drawn.
    """

    task: Literal["segmentation"] = "segmentation"
    annotation: str = "classes"
    palette: str = "painter150"
    n_classes: Annotated[int, Range(1, 1000)] | None = None
    distance: Literal["l1", "l2"] = "l1"
    variants: Annotated[int, Range(1)] = 1
    palette_seed: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        palettes.check(self.palette, self.n_classes)


class Segmentation(Task):
    """`read` is the exact inverse of `render`; but of ade20k, where ids 7 and 49 share a colour and read as 7."""

    Config: ClassVar = SegmentationConfig
    metrics = ("miou",)

    def __init__(self, config: SegmentationConfig) -> None:
        """Raises ValueError if the palette's file is missing or broken, or has too few colours."""
        self.config = config
        self.annotation = config.annotation
        self.variants = config.variants
        self.palette = palettes.Palettes(palettes.canonical(config.palette, config.n_classes), config.palette_seed)

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw ids (H, W), any integer type, 0..n_classes.

        Raises:
            Unreadable: an id outside that range.
        """
        assert annotation.ndim == 2, annotation.shape
        table = self.palette(variant, split)
        palettes.require(annotation, table, self.config.task)
        return palettes.paint(annotation, table)

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Ids (H, W) of the nearest colours, uint8 up to 255 classes, else uint16."""
        return palettes.nearest(picture, self.palette(variant, split), self.config.distance)
