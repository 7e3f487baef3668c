"""Instances: objects drawn each in its own colour, whatever their class.

In: "instances" (H, W), 0 = background, or another annotation of ids. Out: flat colours on black. The colour says where
the object's centre lies, so that it can be predicted from the photo; see places.py. Variants draw the places with other
palettes. To keep an object's colour through a video, draw its number instead: ``{task: segmentation, annotation:
instances}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.images import Unreadable
from lvmlite.recipe import Range
from lvmlite.tasks import palettes
from lvmlite.tasks.base import Task
from lvmlite.tasks.components import components, settle
from lvmlite.tasks.places import cells, renumber


@dataclass(frozen=True)
class InstancesConfig:
    """
    Attributes:
        annotation: the native annotation of numbers it draws.
        grid: cells a side; grid x grid objects have a colour. 8: 64 colours at least 63 apart in L1.
        split_parts: whether each connected part (8 neighbours) of a colour is read as an object of its own.
        variants: how many palettes a store holds; 0 is the canonical one, v > 0 is drawn.
        palette_seed: from which palettes v > 0 are drawn.
    """

    task: Literal["instances"] = "instances"
    annotation: str = "instances"
    grid: Annotated[int, Range(1, 16)] = 8
    split_parts: bool = False
    variants: Annotated[int, Range(1)] = 1
    palette_seed: Annotated[int, Range(0)] = 0


class Instances(Task):
    """`read` inverts `render` but for the numbers, which run in the order of first pixels; with `split_parts`, which
    parts belong together is lost too. In a picture that is not clean, so are objects less than 3 pixels wide."""

    Config: ClassVar = InstancesConfig
    metrics = ("instance_pq",)

    def __init__(self, config: InstancesConfig) -> None:
        self.config = config
        self.annotation = config.annotation
        self.variants = config.variants
        self.palette = palettes.Palettes(palettes.distinct(config.grid**2), config.palette_seed)

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw numbers (H, W), any integer type, 0 = background.

        Raises:
            Unreadable: more objects than colours.
        """
        assert annotation.ndim == 2, annotation.shape
        assert annotation.dtype.kind in "iu", annotation.dtype
        numbers, places = cells(annotation, self.config.grid, self.config.grid)
        if (places < 0).any():
            raise Unreadable("instances: more objects than colours")
        where = np.searchsorted(numbers, annotation)
        ids = np.where(annotation != 0, np.append(places, 0)[where] + 1, 0)
        return palettes.paint(ids, self.palette(variant, split))

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Numbers (H, W) uint16: 1, 2, ... in the order of first pixels, 0 = background."""
        table = self.palette(variant, split)
        ids = palettes.nearest(picture, table)
        ids = settle(ids, (picture == table[ids]).all(-1))
        return renumber(components(ids, connectivity=8) if self.config.split_parts else ids)
