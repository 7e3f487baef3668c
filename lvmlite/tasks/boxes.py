"""Boxes: object detection as a picture.

In: "boxes" (N, 6) float32 x0, y0, x1, y1, class id, number of the object. Out: outlines in the colours of the classes
on the photo, as LVM draws them (Bai et al., CVPR 2024); or filled rectangles on black. With one class these are white:
the single-object detection of "Visual Prompting via Image Inpainting" (Bar et al., NeurIPS 2022), where the largest
white part is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.images import Geometry, Unreadable
from lvmlite.recipe import Range
from lvmlite.tasks import palettes
from lvmlite.tasks.base import Task
from lvmlite.tasks.components import bounds, components, settle
from lvmlite.tasks.outlines import Found, find_outlines


@dataclass(frozen=True)
class BoxesConfig:
    """
    Attributes:
        background: "photo": outlines on the photo. "black": filled rectangles.
        palette, n_classes, variants, palette_seed: the colours of the classes, as of `segmentation`. n_classes: 1
            draws every class in white and reads it as 1.
    """

    task: Literal["boxes"] = "boxes"
    background: Literal["photo", "black"] = "photo"
    palette: str = "distinct"
    n_classes: Annotated[int, Range(1, 1000)] | None = None
    variants: Annotated[int, Range(1)] = 1
    palette_seed: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        palettes.check(self.palette, self.n_classes)


class Boxes(Task):
    """`read` gives whole pixels, in an order of its own and numbered in it. It is exact for boxes of at least 3 x 3
    pixels that do not touch; on the photo, also for most that do, unless so many cross that the search is given up.

    On black, boxes of a class that touch merge; of two that overlap the larger is read by what is left of its
    rectangle; a hidden one is lost. On the photo, a box is lost if its outline is made of others', or half drawn over;
    an outline on a ground of its very colour is not seen. Without the photo given, parts of it that look like an
    outline in a class's colour are read as one.
    """

    Config: ClassVar = BoxesConfig
    annotation = "boxes"
    metrics = ("box_f1", "box_iou")

    def __init__(self, config: BoxesConfig) -> None:
        """Raises ValueError if the palette's file is missing or broken, or has too few colours."""
        self.config = config
        self.variants = config.variants
        white = np.array([[0, 0, 0], [255, 255, 255]], dtype=np.uint8)
        table = white if config.n_classes == 1 else palettes.canonical(config.palette, config.n_classes)
        self.palette = palettes.Palettes(table, config.palette_seed)

    def fit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """Boxes (N, 6) of a photo of `shape` (H, W) -> (M, 6) float32 of the square, cut to it; those with no area
        left are dropped.

        Raises:
            Unreadable: a box that is not of finite numbers.
        """
        assert annotation.ndim == 2, annotation.shape
        assert annotation.shape[1] == 6, annotation.shape
        if not np.isfinite(annotation).all():
            raise Unreadable("boxes: a number that is not finite")
        corners = geometry.points(annotation[:, :4].reshape(-1, 2, 2), shape)
        fitted = _cut(annotation, corners, (geometry.size, geometry.size))
        if self.config.n_classes == 1:
            fitted[:, 4] = 1
        return fitted

    def unfit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """Boxes (N, 6) of the square -> (M, 6) float32 of a photo of `shape` (H, W), cut to it."""
        corners = geometry.invert_points(annotation[:, :4].reshape(-1, 2, 2), shape)
        return _cut(annotation, corners, shape)

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw boxes (N, 6) in pixels of `image`, the larger first. Edges are rounded to whole pixels, at least one
        apart. Outlines lie inside their box and are a pixel wide for each 128 of the picture's shorter side.

        Raises:
            ValueError: no `image`, from which the size and the photo are taken.
            Unreadable: a class outside 1..n_classes, or on black one whose colour is black: the background of VOC.
        """
        if image is None:
            raise ValueError("boxes are drawn on a photo or in its size: give `image`")
        table = self.palette(variant, split)
        classes = annotation[:, 4].astype(np.int64)
        palettes.require(classes - 1, table[1:], self.config.task)
        outlined = self.config.background == "photo"
        if not outlined and not table[classes].any(axis=1).all():
            raise Unreadable("boxes: a class drawn in black on black")
        picture = image.copy() if outlined else np.zeros_like(image)
        width = _line(image.shape[:2])
        corners = _pixels(annotation[:, :4], image.shape[:2])
        sizes = (corners[:, 2:] - corners[:, :2]).prod(1)
        for i in np.argsort(-sizes, kind="stable"):
            (x0, y0, x1, y1), colour = corners[i], table[classes[i]]
            if not outlined:
                picture[y0:y1, x0:x1] = colour
                continue
            w, h = min(width, x1 - x0), min(width, y1 - y0)
            picture[y0 : y0 + h, x0:x1] = picture[y1 - h : y1, x0:x1] = colour
            picture[y0:y1, x0 : x0 + w] = picture[y0:y1, x1 - w : x1] = colour
        return picture

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Boxes (N, 6) float32 by class, numbered from 1. On the photo, only what differs from `image` is looked at."""
        table = self.palette(variant, split)
        if self.config.background == "photo":
            found = find_outlines(picture, table, image, _line(picture.shape[:2]))
        else:
            found = _rectangles(picture, table)
        boxes = np.array([(*box, k, i) for i, (k, box) in enumerate(found, start=1)], dtype=np.float32)
        return boxes.reshape(-1, 6)


def _cut(boxes: np.ndarray, corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Boxes with new corners (N, 2, 2), cut to a picture of (H, W), without those that have no area then: float32."""
    edges = corners.clip(0, np.array(shape[::-1])).reshape(-1, 4)
    moved = np.concatenate([edges, boxes[:, 4:]], axis=1).astype(np.float32)
    return moved[(moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])]


def _line(shape: tuple[int, int]) -> int:
    """The width of outlines in a picture of (H, W)."""
    return max(1, round(min(shape) / 128))


def _pixels(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """x0, y0, x1, y1 (N, 4) in whole pixels inside a picture of (H, W), at least one pixel each way: int64."""
    limit = np.array(shape[::-1])
    low = np.rint(corners[:, :2]).clip(0, limit - 1).astype(np.int64)
    high = np.maximum(np.rint(corners[:, 2:]).clip(0, limit).astype(np.int64), low + 1)
    return np.concatenate([low, high], axis=1)


def _rectangles(picture: np.ndarray, table: np.ndarray) -> Found:
    """Boxes around the connected parts of each class."""
    table = table.copy()
    table[0] = 0  # what is black is no box, whatever the palette has for unlabelled
    ids = palettes.nearest(picture, table)
    ids = settle(ids, (picture == table[ids]).all(-1))
    parts = components(ids)
    found, first = np.unique(parts, return_index=True)
    classes = ids.ravel()[first[found > 0]]
    return [(int(k), box) for k, box in zip(classes, bounds(parts))]
