"""Outlines: rectangles found by their drawn frames, where frames cross, nest, or lie on a photo.

In: a picture uint8 RGB (H, W, 3) with frames in a palette's colours, and the photo below, if known. Out: boxes.

First come frames that are whole: the runs of line pixels to the right of and below each corner say which two corners
can be a box. Of the boxes possible, large ones first, those are kept that explain pixels no other has explained. What
is left, as in a picture that is not clean, is read as the box around each connected part, if it looks like a frame.
"""

from __future__ import annotations

import numpy as np

from lvmlite.tasks import palettes
from lvmlite.tasks.components import bounds, components

Found = list[tuple[int, np.ndarray]]  # classes and their boxes x0, y0, x1, y1

_CHANGED = 48  # L1 levels by which a pixel of a line differs from the photo, unless it is in its class's very colour
_NEAR = 96  # at most, L1 levels from a class's colour of a pixel that may be of a line, where the photo is not known
_OWN = 0.5  # of a frame that must be of its class: other frames may be drawn over the rest
_NEW = 0.2  # of a frame that must not belong to a frame found before
_CORNERS, _BOXES = 2000, 8000  # more possible ones are no drawing: a photo that is taken for lines


def find_outlines(picture: np.ndarray, table: np.ndarray, image: np.ndarray | None, width: int) -> Found:
    """Boxes by frames of `width` pixels, class i in the colour table[i], i > 0."""
    lines = _lines(picture, table, image)
    left = lines.copy()
    found = _whole(lines, left, width)
    parts = components(left != 0, connectivity=8)
    for box in bounds(parts):
        if _looks_like_frame(left != 0, box, width):
            frame = _frame(lines.shape, box, width)
            colour = picture[frame & (left != 0)].astype(np.float64).mean(0)
            nearest = int(np.abs(table[1:] - colour).sum(1).argmin()) + 1
            found.append((nearest, box))
    return found


def _lines(picture: np.ndarray, table: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    """Ids (H, W) int64 of pixels that may be part of a frame, 0 elsewhere: near a class's colour; or, where the photo
    is known, changed, and nearer to that colour than to the photo."""
    ids = palettes.nearest(picture, table[1:]).astype(np.int64) + 1
    gap = np.abs(picture.astype(np.int64) - table[ids]).sum(-1)
    if image is None or image.shape != picture.shape:
        return np.where(gap <= min(_NEAR, palettes.least_distance(table) // 3), ids, 0)
    changed = np.abs(picture.astype(np.int64) - image).sum(-1)
    return np.where((gap < changed) & ((changed >= _CHANGED) | (gap == 0)), ids, 0)


def _whole(lines: np.ndarray, left: np.ndarray, width: int) -> Found:
    """Boxes whose whole frame is lines; pixels of `left` that one explains are set to 0."""
    ink = lines != 0
    onward = [_run(ink, axis) for axis in (0, 1)]
    back = [_back(ink, axis) for axis in (0, 1)]
    tops = np.argwhere(ink & ~_behind(ink) & (np.minimum(*onward) > width))
    bottoms = np.argwhere(ink & ~_behind(ink[::-1, ::-1])[::-1, ::-1] & (np.minimum(*back) > width))
    if not 0 < len(tops) <= _CORNERS or not 0 < len(bottoms) <= _CORNERS:
        return []
    span = bottoms - tops[:, None] + 1  # (tops, bottoms, 2) heights and widths
    fits = (span > width).all(-1)
    for axis in (0, 1):
        fits &= onward[axis][tuple(tops.T)][:, None] >= span[..., axis]
        fits &= back[axis][tuple(bottoms.T)] >= span[..., axis]
    if fits.sum() > _BOXES:
        return []
    a, b = np.nonzero(fits)
    boxes = np.concatenate([tops[a, ::-1], bottoms[b, ::-1] + 1], axis=1)
    found: Found = []
    for box in boxes[np.argsort(-(boxes[:, 2:] - boxes[:, :2]).sum(1), kind="stable")]:
        frame = _frame(lines.shape, box, width)
        ids = lines[frame]
        k = int(np.bincount(ids).argmax())
        mine = frame & (lines == k)
        size = frame.sum()
        if mine.sum() >= _OWN * size and (left[mine] != 0).sum() >= _NEW * size and not _filled(lines == k, box, width):
            found.append((k, box))
            left[mine] = 0
    return found


def _run(ink: np.ndarray, axis: int) -> np.ndarray:
    """How many line pixels follow on without a gap from each pixel, itself one of them, down (axis 0) or right (1)."""
    return _back(ink[::-1, ::-1], axis)[::-1, ::-1]


def _back(ink: np.ndarray, axis: int) -> np.ndarray:
    """How many line pixels without a gap end at each pixel, coming from above (axis 0) or the left (1)."""
    place = np.arange(1, ink.shape[axis] + 1).reshape((-1, 1) if axis == 0 else (1, -1))
    gap = np.maximum.accumulate(np.where(ink, 0, place), axis=axis)
    return np.where(ink, place - gap, 0)


def _behind(ink: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours above, left, and above left are all lines: no upper left corner of a frame."""
    padded = np.pad(ink, ((1, 0), (1, 0)))
    behind: np.ndarray = padded[:-1, 1:] & padded[1:, :-1] & padded[:-1, :-1]
    return behind


def _inside(box: np.ndarray, width: int) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box
    w, h = min(width, x1 - x0), min(width, y1 - y0)
    return slice(y0 + h, max(y0 + h, y1 - h)), slice(x0 + w, max(x0 + w, x1 - w))


def _frame(shape: tuple[int, ...], box: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a frame, bool (H, W)."""
    x0, y0, x1, y1 = box
    frame = np.zeros(shape, dtype=bool)
    frame[y0:y1, x0:x1] = True
    frame[_inside(box, width)] = False
    return frame


def _filled(mine: np.ndarray, box: np.ndarray, width: int) -> bool:
    inside = mine[_inside(box, width)]
    return inside.size >= 16 and bool(inside.mean() > 0.5)


def _looks_like_frame(ink: np.ndarray, box: np.ndarray, width: int) -> bool:
    """Whether a box is big enough to tell, half of each of its sides is line, and its inside is not."""
    x0, y0, x1, y1 = box
    if min(x1 - x0, y1 - y0) <= 2 * width:
        return False
    across, down = slice(x0, x1), slice(y0, y1)
    rows = [ink[y0 : y0 + width, across], ink[y1 - width : y1, across]]
    columns = [ink[down, x0 : x0 + width], ink[down, x1 - width : x1]]
    return all(side.mean() >= 0.5 for side in rows + columns) and not _filled(ink, box, width)
