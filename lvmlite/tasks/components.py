"""Connected components: which pixels hang together, and the box around each group.

In: a mask or a map of ids (H, W). Out: labels (H, W), or a table of the groups. Runs of equal pixels in a row are found
first; touching runs of neighbouring rows are then joined, all at once, until nothing changes: no loop over pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np


def components(mask: np.ndarray, connectivity: Literal[4, 8] = 4) -> np.ndarray:
    """Label the connected components of a mask.

    Args:
        mask: (H, W) bool; or ids of any integer type, where 0 is background and only equal ids hang together.
        connectivity: 4: pixels that share a side; 8: or a corner.

    Returns:
        (H, W) int32, 0 = background, components numbered from 1 by their first pixel in raster order.
    """
    assert mask.ndim == 2, mask.shape
    assert connectivity in (4, 8), connectivity
    height, width = mask.shape
    stride = width + 1  # a column of background between the end of a row and the start of the next
    flat = np.zeros(height * stride + 1, dtype=mask.dtype)
    flat[1:].reshape(height, stride)[:, :width] = mask
    cuts = np.flatnonzero(flat[1:] != flat[:-1])  # a run starts, ends, or both
    ids = flat[cuts + 1]
    inside = np.flatnonzero(ids)
    starts, ends, ids = cuts[inside], np.append(cuts, len(flat) - 1)[inside + 1], ids[inside]

    # Runs of the next row that touch a run are a range: those that end after it starts and start before it ends.
    first, last = ("right", "left") if connectivity == 4 else ("left", "right")
    low = np.searchsorted(ends - stride, starts, side=first)  # type: ignore[call-overload]
    counts = np.maximum(np.searchsorted(starts - stride, ends, side=last) - low, 0)  # type: ignore[call-overload]
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
    equal = ids[upper] == ids[lower]
    roots = _join(len(starts), upper[equal], lower[equal])

    labels = np.zeros(height * stride, dtype=np.int32)
    steps = np.unique(roots, return_inverse=True)[1].astype(np.int32) + 1
    np.add.at(labels, starts, steps)
    np.subtract.at(labels, ends, steps)
    labels = np.cumsum(labels, dtype=np.int32)
    return np.ascontiguousarray(labels.reshape(height, stride)[:, :width])


def _join(n: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of n nodes joined by edges a-b, the lowest node each hangs together with, (n,)."""
    root = np.arange(n)
    while True:
        x, y = root[a], root[b]
        apart = x != y
        if not apart.any():
            return root
        a, b, x, y = a[apart], b[apart], x[apart], y[apart]
        np.minimum.at(root, np.maximum(x, y), np.minimum(x, y))
        while not np.array_equal(shorter := root[root], root):
            root = shorter


def areas(labels: np.ndarray) -> np.ndarray:
    """Pixels of each component of `components` (or any labels >= 0), (n + 1,) int64; entry 0 is the background."""
    return np.bincount(labels.ravel(), minlength=1)


def bounds(labels: np.ndarray) -> np.ndarray:
    """Boxes x0, y0, x1, y1 around labels 1..n, all of which occur, (n, 4) int64; x1 and y1 exclusive."""
    n = int(labels.max(initial=0))
    ys, xs = np.nonzero(labels)
    order = labels[ys, xs] - 1
    boxes = np.empty((n, 4), dtype=np.int64)
    for column, (values, pick, start) in enumerate(
        ((xs, np.minimum, labels.size), (ys, np.minimum, labels.size), (xs + 1, np.maximum, 0), (ys + 1, np.maximum, 0))
    ):
        edge = np.full(n, start)
        pick.at(edge, order, values)
        boxes[:, column] = edge
    return boxes


def settle(ids: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Ids read from a picture, without the specks and fringes that a lossy tokenizer leaves between two colours.

    A pixel is believed if its colour was `exact`, or if it lies in a block of 3 x 3 pixels of its id. Others take the
    id of a believed pixel near by; where none is, all stay. A clean picture stays as it is.

    Args:
        ids: (H, W) of any integer type.
        exact: (H, W) bool.
    """
    height, width = ids.shape
    sure = exact.copy()
    if height >= 3 and width >= 3:
        windows = [(slice(i, height - 2 + i), slice(j, width - 2 + j)) for i in range(3) for j in range(3)]
        block = np.logical_and.reduce([ids[window] == ids[1:-1, 1:-1] for window in windows])
        for window in windows:
            sure[window] |= block
    out = ids.copy()
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    while sure.any() and not sure.all():
        before = sure.copy()
        for dy, dx in steps:
            to = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
            from_ = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
            take = before[from_] & ~sure[to]
            out[to][take] = out[from_][take]
            sure[to] |= take
    return out
