"""Keypoint: one point of the object marked on the photo, so that a sentence of such pairs asks where the same point is
in another photo: keypoint correspondence (Bai et al., CVPR 2024).

In: "keypoints" (N, K, 3) or "pose" (N, 17, 3). Out: the photo with a magenta disc on a point of its greatest object.
Variant v marks point v, in all splits alike: a sentence that draws its variant shows the nose in all its photos, or the
left knee.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.images import Geometry, Unreadable
from lvmlite.recipe import Range
from lvmlite.tasks.base import Task
from lvmlite.tasks.pose import fit_points, unfit_points
from lvmlite.tasks.strokes import centred, disc, find_discs

_MARK = np.array([255, 0, 255], np.uint8)
_NEAR = 150  # levels (sum of channels) by which a mark read may be off
_NEARER = 96  # levels by which a pixel must be nearer to the mark's colour than the photo is


@dataclass(frozen=True)
class KeypointConfig:
    """
    Attributes:
        annotation: the native annotation of points: "pose" or "keypoints".
        n_points: how many of its points are marked, each in a picture of its own: a store holds n_points pictures of
            each photo. Points from n_points on are not used.
        background: the mark is drawn on the photo, or on black.
    """

    task: Literal["keypoint"] = "keypoint"
    annotation: str = "pose"
    n_points: Annotated[int, Range(1)] = 17
    background: Literal["photo", "black"] = "photo"


class Keypoint(Task):
    """`read` finds the pixel of the mark, so half a pixel in x and in y is lost, and whether the point was seen or
    hidden (visibility 1 is marked, and reads as 2). A point that is not in the picture has no mark. On a photo the
    mark is known by the difference from it; read without the photo takes the most magenta disc for the mark.

    Fitted and read annotations are the points of one object, (K, 3): x, y, visibility. Of those that a picture of
    variant v does not show, read says -1: not asked.
    """

    Config: ClassVar = KeypointConfig
    metrics = ("point_pck",)

    def __init__(self, config: KeypointConfig) -> None:
        self.config = config
        self.annotation = config.annotation
        self.variants = config.n_points

    def fit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """The points of the greatest object in the square, by the box around them, (K, 3) float32 in its pixels;
        0, 0, 0 for a point that is not there. Without an object, all are so.

        Raises:
            Unreadable: not points, fewer than n_points, or a labelled point has no finite place.
        """
        if annotation.ndim != 3 or annotation.shape[2] != 3:
            raise Unreadable("points that are not x, y, visibility")
        if annotation.shape[1] < self.config.n_points:
            raise Unreadable("fewer points than n_points")
        fitted = fit_points(annotation, geometry, shape)
        if not len(fitted):
            return np.zeros(annotation.shape[1:], np.float32)
        there = fitted[..., 2:] > 0
        spread = np.where(there, fitted[..., :2], -np.inf).max(1) - np.where(there, fitted[..., :2], np.inf).min(1)
        return fitted[int(spread.max(axis=1).argmax())]  # -inf where nothing is there

    def unfit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """(K, 3) float32 in pixels of the photo."""
        return unfit_points(annotation, geometry, shape)

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw point `variant` of (K, 3) at the size of `image`, and on it unless configured otherwise."""
        assert image is not None, "a point has no size of its own"
        assert 0 <= variant < self.variants <= len(annotation), (variant, annotation.shape)
        picture = image.copy() if self.config.background == "photo" else np.zeros_like(image)
        x, y, visibility = annotation[variant]
        if visibility > 0:
            disc(picture, centred(np.array([x, y], np.float64)), _radius(image.shape[:2]), _MARK)
        return picture

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """(n_points, 3) float32: row `variant` is x, y, 2 where the mark is, or 0, 0, 0 if there is none; the others
        0, 0, -1."""
        off = np.abs(picture.astype(np.int32) - _MARK).sum(axis=2)
        marked = off <= _NEAR
        if self.config.background == "photo" and image is not None and image.shape == picture.shape:
            marked &= np.abs(image.astype(np.int32) - _MARK).sum(axis=2) - off >= _NEARER
        points = np.zeros((self.variants, 3), np.float32)
        points[:, 2] = -1
        centres = find_discs(marked, ~marked, _radius(picture.shape[:2]), 8)
        points[variant] = (*self._best(centres, off), 2) if len(centres) else (0, 0, 0)
        return points

    @staticmethod
    def _best(centres: np.ndarray, off: np.ndarray) -> np.ndarray:
        """Of places (N, 2) the one around which the picture is most like the mark; `off` (H, W) is how unlike."""
        radius = _radius(off.shape)
        down, across = np.ogrid[: off.shape[0], : off.shape[1]]
        unlike = [off[(across + 0.5 - x) ** 2 + (down + 0.5 - y) ** 2 <= radius**2].mean() for x, y in centres]
        return centres[int(np.argmin(unlike))]


def _radius(shape: tuple[int, ...]) -> float:
    """Radius of the mark: a thirty-second of the picture, 8 pixels at 256; at least 2."""
    return max(2.0, min(shape) / 32)
