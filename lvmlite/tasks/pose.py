"""Pose: the joints of people drawn as coloured discs, and limbs between them.

In: "pose" (N, 17, 3), COCO's joints. Out: OpenPose's picture of them (Cao et al., TPAMI 2021), on black or on the
photo: 18 joints, the neck being the middle of the shoulders, in 18 hues, and 17 limbs, each in the hue of its number at
60% brightness, as the pictures that steer ControlNet show them (Zhang et al., ICCV 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lvmlite.images import Geometry, Unreadable
from lvmlite.tasks import palettes
from lvmlite.tasks.base import Task
from lvmlite.tasks.people import NECK, assemble
from lvmlite.tasks.strokes import centred, disc, find_discs, limb, widen

N_JOINTS = 17  # COCO's: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right
_SHOULDERS = (5, 6)

# OpenPose's joints: nose, neck, right shoulder, elbow, wrist, left likewise, right hip, knee, ankle, left likewise,
# right eye, left eye, right ear, left ear. Which of COCO's each is, -1 for the neck:
_COCO = np.array([0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3])
LIMBS: tuple[tuple[int, int], ...] = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10)),  # shoulders, arms, right leg
    *((1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),  # left leg, head
)

# 18 hues 20 degrees apart
_HUES = np.array(
    [
        *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)),
        *((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)),
        *((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
    ],
    dtype=np.uint8,
)
# What a pixel can be: 0 background, 1 to 18 joints, 19 to 35 limbs
_COLOURS = np.concatenate([np.zeros((1, 3)), _HUES, 0.6 * _HUES[: len(LIMBS)]]).astype(np.uint8)
_FIRST_LIMB = 1 + len(_HUES)
_TOLERANCE = 70  # levels (Euclidean) by which a colour read may be off; neighbouring hues are 85 apart
_MAX_PEOPLE = 40


@dataclass(frozen=True)
class PoseConfig:
    """
    Attributes:
        annotation: the native annotation it draws.
        background: drawn on black, or on the photo.
    """

    task: Literal["pose"] = "pose"
    annotation: str = "pose"
    background: Literal["black", "photo"] = "black"


class Pose(Task):
    """`read` finds the joints that can be seen, in the pixel they fall on: to within half a pixel in x and in y.

    Lost are: a joint of which others hide more than five sixths, which among small faces are many (a disc is 5 pixels
    wide up to 256 px); whether a joint was seen or hidden (visibility 1 is drawn, and reads as 2); who a joint belongs
    to where no limb says so. Joints that limbs connect are one person. What remains apart (a person without shoulders
    has no neck, so arms hang on nothing) joins the nearest that lacks these joints, up to half a picture away: two
    people of whom different parts are seen may become one, and people overlapping may swap limbs. On a photo whose
    colours are those of joints, read needs the photo.
    """

    Config: ClassVar = PoseConfig
    metrics = ("pck",)

    def __init__(self, config: PoseConfig) -> None:
        self.config = config
        self.annotation = config.annotation

    def fit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """The people of whom a joint lies in the square, (M, 17, 3) float32 in its pixels; 0, 0, 0 for other joints.

        Raises:
            Unreadable: not (N, 17, 3), or a labelled joint has no finite place.
        """
        if annotation.shape[1:] != (N_JOINTS, 3):
            raise Unreadable("pose without COCO's 17 joints")
        fitted = fit_points(annotation, geometry, shape)
        return fitted[(fitted[..., 2] > 0).any(axis=1)]

    def unfit(self, annotation: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
        """(N, 17, 3) float32 in pixels of the photo."""
        return unfit_points(annotation, geometry, shape)

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw (N, 17, 3) at the size of `image`, and on it if so configured. Limbs below joints."""
        assert image is not None, "a pose has no size of its own"
        assert annotation.shape[1:] == (N_JOINTS, 3), annotation.shape
        picture = image.copy() if self.config.background == "photo" else np.zeros_like(image)
        radius, half_width = _strokes(image.shape[:2])
        people = [_openpose(person) for person in annotation]
        for i, (a, b) in enumerate(LIMBS):
            for places, drawn in people:
                if drawn[a] and drawn[b]:
                    limb(picture, places[a], places[b], half_width, _COLOURS[_FIRST_LIMB + i])
        for joint in range(len(_HUES)):
            for places, drawn in people:
                if drawn[joint]:
                    disc(picture, places[joint], radius, _COLOURS[1 + joint])
        return picture

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """(N, 17, 3) float32: x, y, 2 where found, else 0, 0, 0. The person with most joints first."""
        ids = palettes.nearest(picture, _COLOURS, "l2")
        off = picture.astype(np.int32) - _COLOURS[ids]
        off = (off * off).sum(axis=2)
        drawn = off <= _TOLERANCE**2
        if self.config.background == "photo" and image is not None and image.shape == picture.shape:
            changed = picture.astype(np.int32) - image
            drawn &= off < (changed * changed).sum(axis=2)  # nearer to a joint's colour than to the photo's
        ids = np.where(drawn, ids, 0)
        radius, _ = _strokes(picture.shape[:2])
        is_joint = (ids > 0) & (ids < _FIRST_LIMB)
        found = [find_discs(ids == 1 + j, ~is_joint, radius, _MAX_PEOPLE) for j in range(len(_HUES))]
        seen_limbs = [widen(ids == _FIRST_LIMB + i) for i in range(len(LIMBS))]
        people = assemble(found, LIMBS, seen_limbs, ids > 0, radius)
        joints = np.zeros((len(people), N_JOINTS, 3), np.float32)
        keep = np.arange(len(_HUES)) != NECK
        joints[:, _COCO[keep]] = people[:, keep]
        return joints[(joints[..., 2] > 0).any(axis=1)]


def fit_points(points: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
    """Points (N, K, 3) of a photo of `shape` -> float32 in pixels of the square; those not labelled, whatever their
    place, and those outside of the square become 0, 0, 0.

    Raises:
        Unreadable: a labelled point has no finite place.
    """
    fitted = np.zeros(points.shape, np.float32)
    labelled = points[..., 2] > 0
    if not np.isfinite(points[labelled]).all():
        raise Unreadable("labelled point without a place")
    xy = geometry.points(points[labelled][:, :2], shape).astype(np.float32)
    inside = ((xy >= 0) & (xy < geometry.size)).all(axis=1, keepdims=True)
    fitted[labelled] = np.where(inside, np.concatenate([xy, points[labelled][:, 2:]], axis=1), 0)
    return fitted


def unfit_points(points: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
    """Inverse of `fit_points` for the points that are left."""
    native = points.astype(np.float32)
    labelled = points[..., 2] > 0
    native[labelled, :2] = geometry.invert_points(points[labelled][:, :2], shape)
    return native


def _strokes(shape: tuple[int, int]) -> tuple[float, float]:
    """Radius of joints and half the width of limbs: OpenPose's 4 pixels at 512, but at least what can be read."""
    side = min(shape)
    return max(2.0, side / 128), max(1.0, side / 128)


def _openpose(person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO's joints (17, 3) -> places (18, 2) at centres of pixels, and which are drawn, (18,) bool."""
    drawn = person[_COCO, 2] > 0
    places = centred(np.where(drawn[:, None], person[_COCO, :2], 0).astype(np.float64))
    shoulders = [int(np.flatnonzero(j == _COCO)[0]) for j in _SHOULDERS]
    drawn[NECK] = drawn[shoulders].all()
    places[NECK] = centred(places[shoulders].mean(axis=0))
    return places, drawn
