"""What `sample.ANNOTATIONS` states, checked: one function for every native name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lvmlite.sample import SPLITS, Sample

Shape = tuple[int, int]


def picture(x: np.ndarray, shape: Shape) -> None:
    assert (x.dtype, x.shape) == (np.uint8, (*shape, 3))


def classes(x: np.ndarray, shape: Shape) -> None:
    assert x.dtype in (np.uint8, np.uint16)
    assert x.shape == shape


def instances(x: np.ndarray, shape: Shape) -> None:
    assert (x.dtype, x.shape) == (np.uint16, shape)


def panoptic(x: np.ndarray, shape: Shape) -> None:
    assert (x.dtype, x.shape) == (np.int32, shape)
    assert x.min() >= 0
    assert not ((x > 0) & (x < 1000)).any(), "an object without a class"


def boundaries(x: np.ndarray, shape: Shape) -> None:
    assert (x.dtype, x.shape) == (np.float32, shape)
    assert x.min() >= 0
    assert x.max() <= 1


def distance(x: np.ndarray, shape: Shape) -> None:
    assert (x.dtype, x.shape) == (np.float32, shape)
    assert np.isfinite(x).all()
    assert x.min() >= 0


def normals(x: np.ndarray, shape: Shape) -> None:
    assert (x.dtype, x.shape) == (np.float32, (*shape, 3))
    length = np.linalg.norm(x, axis=2)
    assert ((length == 0) | (np.abs(length - 1) < 1e-4)).all()


def boxes(x: np.ndarray, shape: Shape) -> None:
    assert x.dtype == np.float32
    assert x.shape == (len(x), 6)
    assert np.isfinite(x).all()
    assert (x[:, :2] >= 0).all()
    assert (x[:, :2] < x[:, 2:4]).all()
    assert (x[:, 2:4] <= shape[::-1]).all()
    assert (x[:, 4:] == np.round(x[:, 4:])).all()
    assert (x[:, 4:] >= 1).all()
    assert len(set(x[:, 5])) == len(x), "a number twice"


def points(x: np.ndarray, shape: Shape) -> None:
    assert x.dtype == np.float32
    assert x.ndim == 3
    assert x.shape[2] == 3
    assert np.isfinite(x).all()
    assert np.isin(x[..., 2], (0, 1, 2)).all()
    assert (x[x[..., 2] == 0] == 0).all()


def pose(x: np.ndarray, shape: Shape) -> None:
    points(x, shape)
    assert x.shape[1] == 17


CHECKS: dict[str, Callable[[np.ndarray, Shape], None]] = {
    "classes": classes,
    "instances": instances,
    "panoptic": panoptic,
    "boundaries": boundaries,
    "depth": distance,
    "disparity": distance,
    "normals": normals,
    "boxes": boxes,
    "pose": pose,
    "keypoints": points,
    "target": picture,
}


def check_frame(frame: Mapping[str, Any], announced: tuple[str, ...]) -> None:
    """A frame of a sample whose source announces these annotations."""
    height, width = frame["image"].shape[:2]
    assert min(height, width) > 0
    picture(frame["image"], (height, width))
    assert set(frame) <= {"image", *announced}
    for name, annotation in frame.items():
        if name != "image":
            CHECKS[name](annotation, (height, width))


def check_sample(sample: Sample, source: Any) -> None:
    """All of a sample but for its frames."""
    assert sample.key
    assert sample.group
    assert sample.source == source.name
    assert sample.split in SPLITS
    assert sample.category != ""
    assert len(sample.frames) > 0
