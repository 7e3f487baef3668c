"""Geometry: how pictures and maps of any size become squares of one size, and back.

In: uint8 RGB (H, W, 3), or maps (H, W[, C]) of any dtype. Out: the same at the geometry's size. Pictures are
filtered, maps take the nearest pixel; both see pixel centres at half-integers, so they stay aligned.

A box is (top, left, height, width) in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from lvmlite.images.still import check
from lvmlite.recipe import Range

Box = tuple[int, int, int, int]


def shrink(image: np.ndarray, short_side: int) -> np.ndarray:
    """Reduce uint8 RGB (H, W, 3) so that its short side is at most `short_side`, keeping its aspect."""
    scale = short_side / min(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    return resize(image, (height, width), "bilinear")


def resize(image: np.ndarray, size: tuple[int, int], filter: str, antialias: bool = True) -> np.ndarray:
    """Resize uint8 RGB (H, W, 3) to size = (height, width); pixel centres at half-integers.

    `antialias` widens the filter when reducing (Pillow's way). Without it the picture is sampled with the
    filter's own 2, 4 or 6 neighbours a side, edges replicated: torch's interpolate(align_corners=False).
    """
    from PIL import Image

    if image.shape[:2] == size:
        return image.copy()
    if antialias:
        picture = Image.fromarray(np.ascontiguousarray(image))
        return np.array(picture.resize(size[::-1], Image.Resampling[filter.upper()]))
    x = image.astype(np.float32)
    for axis in (0, 1):
        index, weight = _taps(image.shape[axis], size[axis], filter)
        shape = [1, 1, 1]
        shape[axis] = -1
        x = np.sum([w.reshape(shape) * x.take(i, axis) for i, w in zip(index, weight)], axis=0)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _taps(n_in: int, n_out: int, filter: str) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of each output pixel: indices, and float32 weights summing to 1, both (taps, n_out)."""
    reach = {"bilinear": 1, "bicubic": 2, "lanczos": 3}[filter]
    centre = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    tap = np.floor(centre).astype(np.int64) + np.arange(1 - reach, 1 + reach)[:, None]
    t = np.abs(tap - centre)
    if filter == "bilinear":
        weight = np.maximum(0, 1 - t)
    elif filter == "bicubic":  # Keys' kernel, a = -0.5 as in Pillow
        weight = np.where(t < 1, (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2)
    else:
        weight = np.sinc(t) * np.sinc(t / 3)
    return tap.clip(0, n_in - 1), (weight / weight.sum(0)).astype(np.float32)


@dataclass(frozen=True)
class Geometry:
    """How pictures and maps of any size become squares of one size, and back. Part of `store.json`.

    size: side of the square, pixels.
    fit: "squash" ignores aspect; "crop" takes the centre square of the short side; "pad" fits the long side
        in and pads evenly with 0.
    filter, antialias: for pictures, see `resize`. Maps take the nearest pixel, at pixel centres.
    """

    size: Annotated[int, Range(1)] = 256
    fit: Literal["squash", "crop", "pad"] = "squash"
    filter: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    antialias: bool = True

    def boxes(self, shape: tuple[int, int]) -> tuple[Box, Box]:
        """(box of the picture that is kept, box of the square it fills) for a picture of (H, W)."""
        height, width = shape
        assert min(shape) > 0, shape
        source, target = (0, 0, height, width), (0, 0, self.size, self.size)
        if self.fit == "crop":
            side = min(shape)
            source = ((height - side) // 2, (width - side) // 2, side, side)
        elif self.fit == "pad":
            h, w = (max(1, round(n * self.size / max(shape))) for n in shape)
            target = ((self.size - h) // 2, (self.size - w) // 2, h, w)
        return source, target

    def image(self, x: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (size, size, 3)."""
        check(x)
        source, target = self.boxes(x.shape[:2])
        return self._picture(x, source, target, (self.size, self.size))

    def map(self, x: np.ndarray, fill: float = 0) -> np.ndarray:
        """(H, W[, C]) of any dtype -> (size, size[, C]), values and dtype kept; `fill` where padded."""
        source, target = self.boxes(x.shape[:2])
        return _nearest(x, source, target, (self.size, self.size), fill)

    def invert_image(self, x: np.ndarray, shape: tuple[int, int], fill: int = 0) -> np.ndarray:
        """uint8 (size, size, 3) -> uint8 (H, W, 3) for shape = (H, W); `fill` where "crop" cut."""
        source, target = self.boxes(shape)
        return self._picture(x, target, source, shape, fill)

    def invert_map(self, x: np.ndarray, shape: tuple[int, int], fill: float = 0) -> np.ndarray:
        """(size, size[, C]) -> (H, W[, C]) for shape = (H, W); `fill` where "crop" cut."""
        source, target = self.boxes(shape)
        return _nearest(x, target, source, shape, fill)

    def points(self, xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Points (..., 2) float (x, y) of a picture of (H, W) -> of the square. Pixel (row, column) spans
        [column, column + 1) x [row, row + 1). Points outside of what is kept come to lie outside of the square."""
        source, target = self.boxes(shape)
        return _move(xy, source, target)

    def invert_points(self, xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Inverse of `points`, for shape = (H, W)."""
        source, target = self.boxes(shape)
        return _move(xy, target, source)

    def _picture(self, x: np.ndarray, from_: Box, to: Box, shape: tuple[int, int], fill: int = 0) -> np.ndarray:
        out = np.full((*shape, 3), fill, np.uint8)
        _inside(out, to)[:] = resize(_inside(x, from_), to[2:], self.filter, self.antialias)
        return out


def _inside(x: np.ndarray, box: Box) -> np.ndarray:
    top, left, height, width = box
    return x[top : top + height, left : left + width]


def _move(xy: np.ndarray, from_: Box, to: Box) -> np.ndarray:
    """Points (..., 2) from the axes of one box to those of another, float64."""
    scale = np.array([to[3] / from_[3], to[2] / from_[2]])
    return (xy - np.array([from_[1], from_[0]])) * scale + np.array([to[1], to[0]])


def _nearest(x: np.ndarray, from_: Box, to: Box, shape: tuple[int, int], fill: float) -> np.ndarray:
    """Copy box `from_` of x into box `to` of a new map, each pixel from the one its centre falls on."""
    rows, cols = (((2 * np.arange(n) + 1) * m) // (2 * n) for n, m in zip(to[2:], from_[2:]))
    out = np.full((*shape, *x.shape[2:]), fill, x.dtype)
    _inside(out, to)[:] = _inside(x, from_)[rows][:, cols]
    return out
