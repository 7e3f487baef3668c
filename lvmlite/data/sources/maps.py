"""Annotations that data sets store as pictures: maps of ids, of brightness and of depth.

In: bytes of a file. Out: arrays (H, W) of what was stored, or `Unreadable`. Numbers are never turned into colours:
a palette gives its indices, 16 bits stay 16 bits. `MapsConfig` is how sources of the user's own files say what the
numbers mean, and reads any annotation by its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from lvmlite.images import Unreadable, decode, decode_map
from lvmlite.recipe import Range
from lvmlite.sample import ANNOTATIONS

READABLE = ("classes", "instances", "boundaries", "depth", "disparity", "normals", "target")  # from one picture
UNKNOWN_IDS = "mask with unknown ids"


@dataclass(frozen=True, kw_only=True)
class MapsConfig:
    """What the numbers in pictures of annotations mean.

    ignore: stored ids of classes and instances that mean unlabelled or background.
    first: the class id that a stored 0 becomes: 1 where 0 is a class, because our 0 is unlabelled.
    n_classes: a class id above this, after `first`, is refused.
    depth_scale: stored depth per metre; 0 and 65535 are unknown.
    disparity_scale: stored disparity per pixel; 0 is unknown.
    """

    ignore: list[Annotated[int, Range(0)]] = field(default_factory=list)
    first: Annotated[int, Range(0)] = 0
    n_classes: Annotated[int, Range(1)] | None = None
    depth_scale: Annotated[float, Range(1e-6)] = 1000.0
    disparity_scale: Annotated[float, Range(1e-6)] = 1.0

    def read_map(self, annotation: str, data: bytes) -> np.ndarray:
        """One of `READABLE` as `sample.ANNOTATIONS` states it; what has a name of its own is a picture.

        Raises:
            Unreadable: as the readers below.
        """
        if annotation not in ANNOTATIONS or annotation == "target":
            return decode(data)
        if annotation == "boundaries":
            return read_grey(data)
        if annotation == "depth":
            return known_depth(data, self.depth_scale)
        if annotation == "disparity":
            return read_depth(data, self.disparity_scale)
        if annotation == "normals":
            return normals_of(decode(data))
        first, most = (self.first, self.n_classes or 65535) if annotation == "classes" else (0, 65535)
        return as_ids(read_ids(data), self.ignore, first, most)


def read_ids(data: bytes) -> np.ndarray:
    """Ids of classes, objects or regions: (H, W) uint8, uint16 or int32, none below 0.

    Grey of any depth, a palette's indices, or colours whose three channels are equal.

    Raises:
        Unreadable: "not a map of ids", or as `images.decode_map`.
    """
    ids = _one_channel(decode_map(data), "not a map of ids")
    if ids.dtype.kind == "b":
        return ids.astype(np.uint8)
    if ids.dtype.kind == "f" or (ids.dtype.kind == "i" and ids.min() < 0):
        raise Unreadable("not a map of ids")
    return ids


def read_rgb_ids(data: bytes) -> np.ndarray:
    """Ids written into colours, R + 256 G + 65536 B, as COCO's panoptic maps are: (H, W) int32.

    Raises:
        Unreadable: "not a map of RGB ids", or as `images.decode_map`.
    """
    colours = decode_map(data)
    if colours.ndim != 3 or colours.dtype != np.uint8 or colours.shape[2] != 3:
        raise Unreadable("not a map of RGB ids")
    return colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)


def read_grey(data: bytes) -> np.ndarray:
    """Brightness: (H, W) float32 in [0, 1]. Integers are shares of 1, 255 or 65535 by their bits, floats clipped.

    Raises:
        Unreadable: "not a grey picture", or as `images.decode_map`.
    """
    grey = _one_channel(decode_map(data, ids=False), "not a grey picture")
    top = {"b": 1, "f": 1}.get(grey.dtype.kind, 255 if grey.dtype == np.uint8 else 65535)
    return np.clip(np.nan_to_num(grey.astype(np.float32) / top), 0, 1)


def read_depth(data: bytes, scale: float) -> np.ndarray:
    """Depth or disparity: (H, W) float32, 0 = unknown: what is stored divided by `scale`, such as 1000 of millimetres.

    What is not a number, infinite or below 0 is unknown. A number that a data set uses for unknown, such as 65535, is
    the caller's affair.

    Raises:
        Unreadable: "not a depth map", or as `images.decode_map`.
    """
    assert scale > 0, scale
    depth = _one_channel(decode_map(data, ids=False), "not a depth map")
    if depth.dtype.kind == "b":
        raise Unreadable("not a depth map")
    metres = (depth / scale).astype(np.float32)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))


def as_ids(stored: np.ndarray, ignore: list[int], first: int, most: int) -> np.ndarray:
    """Stored ids (H, W) -> uint16 (H, W): those to ignore are 0, others `first` more than stored.

    Raises:
        Unreadable: an id above `most`.
    """
    ids = np.where(np.isin(stored, ignore), 0, stored.astype(np.int64) + first)
    if ids.max(initial=0) > most:
        raise Unreadable(UNKNOWN_IDS)
    return ids.astype(np.uint16)


def known_depth(data: bytes, scale: float) -> np.ndarray:
    """`read_depth`, of which 65535, the largest number of 16 bits, is unknown too."""
    depth = read_depth(data, scale)
    return np.where(depth > 65534.5 / scale, np.float32(0), depth)


def normals_of(picture: np.ndarray) -> np.ndarray:
    """Normals (H, W, 3) float32 written into colours, 0 .. 255 for -1 .. 1; black is unknown."""
    normals = picture.astype(np.float32) / 127.5 - 1
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    known = (picture != 0).any(axis=2, keepdims=True) & (length > 0.1)
    return np.where(known, normals / np.maximum(length, 0.1), np.float32(0))


def check_size(annotation: np.ndarray, image: np.ndarray, what: str) -> None:
    """Raises Unreadable unless a map (H, W, ...) is as big as its photo (H, W, 3). `what`: "depth", for one."""
    if annotation.shape[:2] != image.shape[:2]:
        raise Unreadable(f"{what} and photo differ in size")


def _one_channel(x: np.ndarray, reason: str) -> np.ndarray:
    """(H, W) of itself, or of colours that are all grey. Raises Unreadable(reason)."""
    if x.ndim == 2:
        return x
    if (x != x[..., :1]).any():
        raise Unreadable(reason)
    return np.ascontiguousarray(x[..., 0])
