"""RGB-D sequences as 7-Scenes, TUM and ScanNet lay them out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .pictures import save

SIZE = (24, 32)
CAMERA = (120.0, 120.0, 15.5, 11.5)
MATRIX = "120 0 15.5\n0 120 11.5\n0 0 1\n"


def save_pair(photo: Path, depth: Path, number: int, millimetres: int = 2000, size: tuple[int, int] = SIZE) -> None:
    """Photo number `number`, and a depth map whose first row is unknown."""
    save(photo, np.full((*SIZE, 3), 3 * number))
    stored = np.full(size, millimetres + number, np.uint16)
    stored[0, :10], stored[0, 10:] = 0, 65535
    save(depth, stored, np.uint16)


def write_7scenes(root: Path) -> Path:
    """Two sequences without intrinsics."""
    for run, n in (("run0", 5), ("run1", 2)):
        for t in range(n):
            save_pair(root / run / f"frame-{t:06d}.color.png", root / run / f"frame-{t:06d}.depth.png", t)
            (root / run / f"frame-{t:06d}.pose.txt").write_text("1 0 0 0\n" * 4)
    return root


def write_tum(root: Path, photos: Sequence[float], depths: Sequence[float]) -> Path:
    """One sequence of photos and depth maps, 10 m away, at these seconds; either list names a file more."""
    for kind, times in (("rgb", photos), ("depth", depths)):
        lines = ["# color images", "# timestamp filename", *(f"{time:.3f} {kind}/{time:.3f}.png" for time in times)]
        (root / kind).mkdir(parents=True)
        (root / f"{kind}.txt").write_text("\n".join([*lines, f"9.0 {kind}/gone.png", ""]))
    for i, (photo, depth) in enumerate(zip(photos, depths, strict=True)):
        save_pair(root / f"rgb/{photo:.3f}.png", root / f"depth/{depth:.3f}.png", i, 10000)
    return root
