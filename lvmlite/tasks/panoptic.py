"""Panoptic segmentation: every pixel's class, and which pixels are one object, in one picture.

In: "panoptic" (H, W) int32, class id * 1000 + number, number 0 for stuff, 0 = unlabelled. Out: flat colours. The class
gives the colour, as in segmentation; an object a shade of it, which says where the object's centre lies (see
places.py), so that touching objects of a class can be told apart and the shade be predicted from the photo.
Task and metric: "Panoptic Segmentation" (Kirillov et al., CVPR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.recipe import Range
from lvmlite.tasks import palettes
from lvmlite.tasks.base import Task
from lvmlite.tasks.components import components, settle
from lvmlite.tasks.places import cells, renumber

NUMBERS = 1000  # panoptic ids: class id * NUMBERS + number of the object
_ROWS, _COLUMNS = 2, 4  # objects of a class with a shade of their own, by place
_SHARED = _ROWS * _COLUMNS + 1  # the shade of those beyond
# Shade 0 is the class's own colour, for stuff. Others move it by so many steps in red, green, blue.
_STEPS = np.array([(a, b, c) for a in range(3) for b in range(3 - a) for c in range(3 - a - b)])


@dataclass(frozen=True)
class PanopticConfig:
    """
    Attributes:
        palette, n_classes, variants, palette_seed: the colours of the classes, as of `segmentation`.
    """

    task: Literal["panoptic"] = "panoptic"
    palette: str = "distinct"
    n_classes: Annotated[int, Range(1, 1000)] | None = None
    variants: Annotated[int, Range(1)] = 1
    palette_seed: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        palettes.check(self.palette, self.n_classes)


class Panoptic(Task):
    """`read` inverts `render` but for the numbers, which run in the order of first pixels. Eight objects of a class
    have a shade each. Those beyond, the smallest, share one, and are read as its connected parts (4 neighbours):
    touching ones merge, and one in several parts is split. In a picture that is not clean, segments less than 3
    pixels wide are lost.

    The nearest class colour to a shade is always its own.
    """

    Config: ClassVar = PanopticConfig
    annotation = "panoptic"
    metrics = ("pq",)

    def __init__(self, config: PanopticConfig) -> None:
        """Raises ValueError if the palette's file is missing or broken, its colours are too few or too close."""
        self.config = config
        self.variants = config.variants
        self.palette = palettes.Palettes(palettes.canonical(config.palette, config.n_classes), config.palette_seed)
        if palettes.least_distance(self.palette()) < 6:
            raise ValueError(
                f"palette {config.palette} has two colours closer than 6 levels; panoptic needs room for shades: "
                "use another, palette: distinct for one"
            )

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw panoptic ids (H, W), any integer type.

        Raises:
            Unreadable: a class outside 0..n_classes.
        """
        assert annotation.ndim == 2, annotation.shape
        table = self.palette(variant, split)
        classes = annotation // NUMBERS
        palettes.require(classes, table, self.config.task)
        shades = np.zeros(annotation.shape, dtype=np.int64)
        objects = np.where(annotation % NUMBERS, annotation, 0)
        for k in np.unique(classes[objects != 0]):
            mine = np.where(classes == k, objects, 0)
            numbers, places = cells(mine, _ROWS, _COLUMNS)
            shade = np.where(places < 0, _SHARED, places + 1)
            inside = mine != 0
            shades[inside] = shade[np.searchsorted(numbers, mine[inside])]
        return _shaded(table)[classes, shades]

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Panoptic ids (H, W) int32. The class is that of the nearest class colour, the shade the nearest of its."""
        table = self.palette(variant, split)
        classes = palettes.nearest(picture, table).astype(np.int64)
        colours = _shaded(table).astype(np.int16)
        gap = np.stack([np.abs(picture - colours[classes, s]).sum(-1) for s in range(len(_STEPS))])
        segments = classes * len(_STEPS) + np.where(classes != 0, gap.argmin(0), 0)
        segments = settle(segments, gap.min(0) == 0)
        classes, shades = np.divmod(segments, len(_STEPS))
        parts = components(shades == _SHARED)
        segments = np.where(parts > 0, segments.max() + parts, segments)  # each part a segment of its own
        out = (classes * NUMBERS).astype(np.int32)
        for k in np.unique(classes[shades != 0]):
            mine = (classes == k) & (shades != 0)
            number = renumber(np.where(mine, segments, 0))[mine]
            out[mine] += np.minimum(number, NUMBERS - 1)
        return out


def _shaded(table: np.ndarray) -> np.ndarray:
    """A table's colours in all shades, (n + 1, shades, 3) uint8; row 0 is the colour of unlabelled in all.

    Shades move a colour away from its nearer end, 0 or 255, so never beyond. The farthest is a third of the least
    distance of two classes away in L1, so nearer to its class than to another.
    """
    step = palettes.least_distance(table) // 6
    base = table[:, None].astype(np.int64)
    colours = base + step * np.where(base < 128, 1, -1) * _STEPS
    colours[0] = base[0]
    return colours.astype(np.uint8)
