"""leftImg8bit, gtFine and disparity of Cityscapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .pictures import picture, save

SHAPE = (8, 16)
STEMS = {
    "train": ["aachen/aachen_000000_000019", "aachen/aachen_000000_000020", "ulm/ulm_000001_000019"],
    "val": ["lindau/lindau_000000_000019"],
    "test": ["berlin/berlin_000000_000019"],
}
DISPARITY = np.array([[0, 1, 257, 65535]]).repeat(8, 0).repeat(4, 1)


def labels() -> np.ndarray:
    return np.arange(128).reshape(SHAPE) % 34


def instances() -> np.ndarray:
    """Two cars, a caravan, a rider who is counted from 0, a group of persons, and road."""
    ids = np.full(SHAPE, 7)
    ids[0, :4], ids[0, 4:8], ids[1, :4], ids[2, :4], ids[3, :4], ids[4, :4] = 26000, 26007, 29000, 25000, 24, 0
    return ids


def write(root: Path) -> Path:
    """Photos of all splits with their maps; no disparity."""
    for split, stems in STEMS.items():
        for i, stem in enumerate(stems):
            save(root / f"leftImg8bit/{split}/{stem}_leftImg8bit.png", picture(i, SHAPE))
            save(root / f"gtFine/{split}/{stem}_gtFine_labelIds.png", labels())
            save(root / f"gtFine/{split}/{stem}_gtFine_instanceIds.png", instances(), np.uint16)
    return root


def write_disparity(root: Path) -> None:
    for split in ("train", "val"):
        for stem in STEMS[split]:
            save(root / f"disparity/{split}/{stem}_disparity.png", DISPARITY, np.uint16)
