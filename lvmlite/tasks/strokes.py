"""Strokes: discs and limbs drawn into a picture without soft edges, so that every pixel has a colour that means one
thing; and the centres of discs found again.

Places are (x, y) in pixels; pixel (row, column) has its centre at (column + 0.5, row + 0.5). What lies outside of the
picture is cut off.
"""

from __future__ import annotations

import numpy as np

from lvmlite.tasks.components import areas, bounds, components


def centred(xy: np.ndarray) -> np.ndarray:
    """Places (..., 2) moved to the centre of the pixel they fall on: discs are then symmetric, and exactly found."""
    return np.floor(xy) + 0.5


def disc(picture: np.ndarray, centre: np.ndarray, radius: float, colour: np.ndarray) -> None:
    """Paint the pixels whose centres are at most `radius` from `centre` (2,) into uint8 (H, W, 3)."""
    (x, y), reach = centre, np.array([radius, radius])
    view, across, down = _around(picture, centre - reach, centre + reach)
    view[(across - x) ** 2 + (down - y) ** 2 <= radius * radius] = colour


def limb(picture: np.ndarray, start: np.ndarray, end: np.ndarray, half_width: float, colour: np.ndarray) -> None:
    """Paint an ellipse from `start` (2,) to `end` (2,), 2 * half_width wide in its middle, and the line of one pixel
    along it, into uint8 (H, W, 3)."""
    half = np.hypot(*(end - start)) / 2
    if half < 1e-6:  # pixels
        return
    low, high = np.minimum(start, end) - half_width, np.maximum(start, end) + half_width
    view, across, down = _around(picture, low, high)
    (x, y), (ux, uy) = (start + end) / 2, (end - start) / (2 * half)
    along = (across - x) * ux + (down - y) * uy
    aside = (down - y) * ux - (across - x) * uy
    ellipse = (along / half) ** 2 + (aside / half_width) ** 2 <= 1
    view[ellipse | ((np.abs(aside) <= 0.5) & (np.abs(along) <= half))] = colour


def _around(picture: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of the picture that holds a box, and the x (1, w) and y (h, 1) of its pixel centres."""
    height, width = picture.shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(low), 0, (width, height)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(high), 0, (width, height)))
    return picture[y0:y1, x0:x1], np.arange(x0, x1)[None] + 0.5, np.arange(y0, y1)[:, None] + 0.5


def find_discs(mask: np.ndarray, free: np.ndarray, radius: float, limit: int) -> np.ndarray:
    """Centres of the discs of `radius` in a mask, (N, 2) float64 x, y: centres of pixels.

    Each group of pixels is explained by the disc that covers most of it and least of what is free; while a third of a
    disc remains unexplained, by another. So a disc is found in its place where others hide a part of it, or the edge of
    the picture cuts it; one of which less than a sixth is seen is not found.

    Args:
        mask: (H, W) bool, the colour of the discs.
        free: (H, W) bool, where a disc would be seen if it were there; not where something may hide it.
        limit: discs found at most, those of the largest groups first.
    """
    reach = int(radius)
    steps = np.arange(-reach, reach + 1)
    shape = steps[:, None] ** 2 + steps**2 <= radius * radius
    labels = components(widen(mask), 8) * mask  # what is drawn across a disc may leave it in two pieces
    sizes = areas(labels)
    sizes[0] = 0
    groups = [i for i in np.argsort(-sizes, kind="stable")[:limit] if sizes[i] >= shape.sum() / 6]
    boxes = bounds(labels) if groups else np.zeros((0, 4), np.int64)
    centres: list[tuple[float, float]] = []
    for i in groups:
        x0, y0 = np.maximum(boxes[i - 1, :2] - reach, 0)
        x1, y1 = np.minimum(boxes[i - 1, 2:] + reach, mask.shape[::-1])
        left, window = labels[y0:y1, x0:x1] == i, free[y0:y1, x0:x1]
        least = shape.sum() / 6
        while left.any() and len(centres) < limit:
            covered = _count(left, shape)
            score = 2 * covered - _count(window & ~left, shape)
            ys, xs = np.nonzero(score == score.max())
            middle = np.argwhere(left).mean(axis=0)
            best = np.argmin((ys - middle[0]) ** 2 + (xs - middle[1]) ** 2)
            y, x = int(ys[best]), int(xs[best])
            if covered[y, x] < least:
                break
            centres.append((x0 + x + 0.5, y0 + y + 0.5))
            rows, columns = np.ogrid[: left.shape[0], : left.shape[1]]
            left &= (rows - y) ** 2 + (columns - x) ** 2 > (radius + 1) ** 2
            least = shape.sum() / 3
    return np.array(centres, dtype=np.float64).reshape(-1, 2)


def _count(mask: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """How many pixels of a mask (h, w) a symmetric `shape` (k, k) covers around each pixel, (h, w) int."""
    k = len(shape)
    padded = np.pad(mask, k // 2).astype(np.int64)
    total = np.zeros(mask.shape, dtype=np.int64)
    for dy, dx in np.argwhere(shape):
        total += padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
    return total


def widen(mask: np.ndarray) -> np.ndarray:
    """Dilation by 3 x 3, bool (H, W)."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
