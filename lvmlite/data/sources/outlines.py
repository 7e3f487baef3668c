"""Outlines of objects as COCO writes them: polygons or run lengths, packed small, and filled in to maps.

In: the "segmentation" of an annotation, which nobody has checked. Out: an `Outline`, and its map (H, W) bool. Polygons
are filled by pycocotools, so that pixels at the border are those that COCO's own scores count; it is given nothing it
could choke on. Run lengths are read here: written in columns, background first; format by the COCO API (maskApi).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lvmlite.data.sources.published import numbers
from lvmlite.images import Unreadable

Outline = tuple[bytes, ...] | bytes  # polygons, float32 x, y, x, y, ...; or run lengths, int32
BAD = "an annotation without a usable segmentation"


def pack_outline(segmentation: Any, shape: tuple[int, int]) -> Outline:
    """Check and pack an object's outline in an image (H, W).

    Raises:
        Unreadable: neither polygons of three points, nor run lengths that fill the image; far outside the image.
    """
    if isinstance(segmentation, list):
        polygons = [_polygon(polygon, shape) for polygon in segmentation]
        if not polygons:
            raise Unreadable(BAD)
        return tuple(polygons)
    if not isinstance(segmentation, dict):
        raise Unreadable(BAD)
    if segmentation.get("size") != list(shape):
        raise Unreadable("segmentation and photo differ in size")
    counts = segmentation.get("counts")
    runs = _uncompress(counts) if isinstance(counts, str) else numbers(counts)
    n_pixels = shape[0] * shape[1]
    if runs is None or ((runs < 0) | (runs > n_pixels) | (runs != np.floor(runs))).any() or runs.sum() != n_pixels:
        raise Unreadable(BAD)
    return runs.astype(np.int32).tobytes()


def fill_outline(outline: Outline, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of an object, (H, W) bool."""
    if isinstance(outline, bytes):
        runs = np.frombuffer(outline, np.int32)
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return inside.reshape(shape, order="F")
    mask = coco_masks()
    polygons = [np.frombuffer(polygon, np.float32).astype(np.float64).tolist() for polygon in outline]
    filled: np.ndarray = mask.decode(mask.merge(mask.frPyObjects(polygons, *shape)))
    return filled.astype(bool)


def coco_masks() -> Any:
    """The module pycocotools.mask. Raises ValueError: not installed."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError("source coco: outlines need pycocotools; pip install 'lvmlite[coco]'") from error
    return mask


def _polygon(polygon: Any, shape: tuple[int, int]) -> bytes:
    """One polygon. A point an image's width beside the image is a mistake, and would cost time without end."""
    xy = numbers(polygon)
    if xy is None or len(xy) < 6 or len(xy) % 2:
        raise Unreadable(BAD)
    size = np.array(shape[::-1])
    points = xy.reshape(-1, 2)
    if (points < -size).any() or (points > 2 * size).any():
        raise Unreadable("a segmentation outside its image")
    return xy.astype(np.float32).tobytes()


def _uncompress(text: str) -> np.ndarray | None:
    """Run lengths written as text: 6 bits a character from "0", 5 of them digits, lowest first, one for "goes on".

    The last character's top digit is the sign. From the fourth on, a run is the difference to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else np.array(runs, np.float64)
