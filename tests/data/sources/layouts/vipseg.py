"""VIPSeg."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .pictures import save

WALL, ROAD, PERSON, TRAIN = 1, 19, 61, 124  # counted from 1, as masks count
SIZE = (12, 20)


def mask(t: int) -> np.ndarray:
    """A wall above a road, persons 0 and 1, of whom 1 walks, and a strip of nothing."""
    stored = np.full(SIZE, WALL, np.uint16)
    stored[6:] = ROAD
    stored[3:8, 1:3], stored[3:8, 5 + t : 7 + t] = PERSON * 100, PERSON * 100 + 1
    stored[0] = 0
    return stored


def write_video(root: Path, video: str, frames: int, masks: int) -> None:
    for t in range(frames):
        save(root / f"imgs/{video}/{3 * t:08d}.jpg", np.full((*SIZE, 3), 9 * t))
        if t < masks:
            save(root / f"panomasks/{video}/{3 * t:08d}.png", mask(t), np.uint16)


def write(root: Path) -> Path:
    """Four videos, one of them in no list and one without masks; a list names one that is not there."""
    for video in ("0_wHIYJjDGIEk", "1001_5z1ijI", "1002_a"):
        write_video(root, video, 4, masks=4)
    write_video(root, "1003_test", 2, masks=0)
    (root / "train.txt").write_text("0_wHIYJjDGIEk\n1002_missing\n")
    (root / "val.txt").write_text("1001_5z1ijI\n")
    (root / "test.txt").write_text("1003_test\n")
    categories = [{"id": i, "name": str(i), "isthing": 0, "color": [i, i, i]} for i in range(124)]
    (root / "panoVIPSeg_categories.json").write_text(json.dumps(categories))
    return root
