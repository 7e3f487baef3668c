"""DAVIS 2017 and YouTube-VOS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .pictures import save

SIZE = (12, 20)


def mask(t: int) -> np.ndarray:
    """Object 1 moves right, object 2 stays; a border of 255."""
    ids = np.zeros(SIZE, np.uint8)
    ids[2:5, t : t + 3], ids[7:9, 10:] = 1, 2
    ids[-1] = 255
    return ids


def write_davis(root: Path) -> Path:
    """Three videos of two lists, which name one that is not there and leave one out."""
    for video, n in (("bear", 7), ("camel", 3), ("unlisted", 2)):
        for t in range(n):
            save(root / f"JPEGImages/480p/{video}/{t:05d}.jpg", np.full((*SIZE, 3), 5 * t))
            save(root / f"Annotations/480p/{video}/{t:05d}.png", mask(t), palette=True)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/train.txt").write_text("bear\nghost\n")
    (root / "ImageSets/2017/val.txt").write_text("camel\r\n")
    return root


def write_youtube(root: Path) -> Path:
    """A video of every fifth frame for each split; that for validation has one mask."""
    for split, masked in (("train", (0, 5, 10)), ("valid", (0,))):
        for t in (0, 5, 10):
            save(root / f"{split}/JPEGImages/{split}0fe/{t:05d}.jpg", np.full((*SIZE, 3), 5 * t))
        for t in masked:
            save(root / f"{split}/Annotations/{split}0fe/{t:05d}.png", mask(t // 5), palette=True)
        (root / split / "meta.json").write_text(json.dumps({"videos": {f"{split}0fe": {"objects": {}}}}))
    return root
