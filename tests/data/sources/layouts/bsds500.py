"""BSR/BSDS500/data, with .mat files as scipy writes them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from .pictures import save

SIZE = (20, 30)


def drawing(column: int, kind: type = np.uint8, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Regions and boundaries of an annotator who saw one upright line."""
    regions = np.ones(size, np.uint16)
    regions[:, column:] = 2
    boundaries = np.zeros(size, kind)
    boundaries[:, column] = 1
    return regions, boundaries


def mat(*people: tuple[np.ndarray, np.ndarray], compress: bool = True, **others: Any) -> bytes:
    """groundTruth: a cell array (1, n) of structs (1, 1) with Segmentation and Boundaries."""
    cells = np.empty((1, len(people)), object)
    for i, (regions, boundaries) in enumerate(people):
        person = np.empty((1, 1), [("Segmentation", object), ("Boundaries", object)])
        person[0, 0] = (regions, boundaries)
        cells[0, i] = person
    out = io.BytesIO()
    savemat(out, {"groundTruth": cells, **others} if people else others, do_compression=compress)
    return out.getvalue()


def write(root: Path) -> Path:
    """A photo of each split, seen by four annotators."""
    data = root / "BSDS500" / "data"
    for number, split in enumerate(("train", "val", "test")):
        save(data / f"images/{split}/10{number}.jpg", np.full((*SIZE, 3), 40 * number))
        people = [drawing(5), drawing(5, bool), drawing(9), drawing(9 + number)]
        truth = data / f"groundTruth/{split}/10{number}.mat"
        truth.parent.mkdir(parents=True)
        truth.write_bytes(mat(*people))
    return root
