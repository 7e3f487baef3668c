"""ADEChallengeData2016."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .pictures import picture, save

SHAPE = (12, 16)
CLASSES = np.arange(192).reshape(SHAPE) % 151


def write(root: Path) -> Path:
    """Three photos for training, one for validation; the last photo for training has no scene."""
    lines = []
    for folder, word, numbers in (("training", "train", (1, 2, 3)), ("validation", "val", (1,))):
        for i in numbers:
            stem = f"ADE_{word}_{i:08d}"
            save(root / f"images/{folder}/{stem}.jpg", picture(i, SHAPE))
            save(root / f"annotations/{folder}/{stem}.png", CLASSES)
            lines.append(f"{stem} {'airport terminal' if i == 1 else 'street'}")
    (root / "sceneCategories.txt").write_text("\n".join(lines[:-2] + lines[-1:]))
    rows = "".join(f"{i}\t0.1\t5\t5\tclass{i}, other name\n" for i in range(1, 151))
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + rows)
    return root
