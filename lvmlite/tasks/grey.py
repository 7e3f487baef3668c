"""Grey: how nearness is drawn, near bright and unknown black. Depth and disparity share it.

Known values use grey 32..255. The band below is left empty, so that black still reads as unknown, and far still as
far, after a tokenizer has moved both by up to 15 levels.
"""

from __future__ import annotations

import numpy as np

FAR_GREY = 32
STEPS = 255 - FAR_GREY


def draw(nearness: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] where `known` (H, W) bool -> grey uint8 (H, W, 3)."""
    grey = np.where(known, np.rint(FAR_GREY + STEPS * nearness), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def measure(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (H, W, 3) -> nearness (H, W) in [0, 1] from the mean of the channels, and where it is known."""
    grey = picture.mean(axis=2)
    return np.clip((grey - FAR_GREY) / STEPS, 0, 1), grey >= FAR_GREY / 2
