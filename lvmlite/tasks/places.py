"""Places: which cell of a grid over the picture stands for which object, so that a colour can tell where it is.

In: a map of numbers (H, W). Out: a cell for each number. A colour that depends on where an object's centre lies can be
predicted from the photo alone; one that depends on the order of a list cannot ("Images Speak in Images", Wang et al.,
CVPR 2023, colours instances by their place).
"""

from __future__ import annotations

import numpy as np


def cells(numbers: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each object: that its centre of mass lies in, or the nearest that is free; big objects choose first.

    Args:
        numbers: (H, W) integers >= 0, 0 = no object.
        rows, columns: of the grid, which covers the whole picture.

    Returns:
        The numbers that occur (n,), ascending, and their cells (n,) int64: row * columns + column, no two alike; -1
        for the smallest objects where there are more objects than cells.
    """
    found, order = np.unique(numbers, return_inverse=True)
    order = order.reshape(numbers.shape)
    height, width = numbers.shape
    areas = np.bincount(order.ravel(), minlength=len(found))
    y, x = (
        np.bincount(order.ravel(), np.broadcast_to(place, numbers.shape).ravel(), minlength=len(found)) / areas
        for place in ((np.arange(height)[:, None] + 0.5) * rows / height, (np.arange(width) + 0.5) * columns / width)
    )
    keep = found != 0
    found, areas, y, x = found[keep], areas[keep], y[keep], x[keep]
    grid_y, grid_x = np.divmod(np.arange(rows * columns), columns)
    taken = np.zeros(rows * columns, dtype=bool)
    chosen = np.full(len(found), -1, dtype=np.int64)
    for i in np.lexsort((x, y, -areas)):  # of equal areas, the higher up first, then the further left
        own = min(int(y[i]), rows - 1) * columns + min(int(x[i]), columns - 1)
        if taken.all():
            break
        gap = np.where(taken, np.inf, (grid_y + 0.5 - y[i]) ** 2 + (grid_x + 0.5 - x[i]) ** 2)
        chosen[i] = int(gap.argmin()) if taken[own] else own
        taken[chosen[i]] = True
    return found, chosen


def renumber(numbers: np.ndarray) -> np.ndarray:
    """Numbers (H, W), 0 = none, as 1, 2, ... in the order of their first pixels, uint16."""
    found, first, order = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.zeros(len(found), dtype=np.uint16)
    objects = np.flatnonzero(found)
    rank[objects[np.argsort(first[objects])]] = np.arange(1, len(objects) + 1)
    return rank[order].reshape(numbers.shape)
