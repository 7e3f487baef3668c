"""Sample: the one structure every source of visual data is brought into, a grid of time x kind.

In: whatever a source reads. Out: `Sample`, which build.py turns into rows of a store.

A photo is 1 x {image}; a photo with annotations 1 x {image, classes, depth, ...}; a video T x {image};
an annotated video T x {image, classes, ...}; a turntable T views x {image, depth, ...}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SPLITS = ("train", "val", "test")

# The native annotations tasks know how to draw. Maps have the photo's (H, W). In pixels, x to the right and y down:
# pixel (row, column) spans [column, column + 1) x [row, row + 1).
ANNOTATIONS = {
    "classes": "(H, W) uint8 or uint16 class ids, 0 = unlabelled",
    "instances": "(H, W) uint16, 0 = background; the same number is the same object in all frames",
    "panoptic": "(H, W) int32, class id * 1000 + number of the object; number 0 for stuff, 0 = unlabelled",
    "boundaries": "(H, W) float32 in [0, 1], the share of annotators who saw a boundary in the pixel",
    "depth": "(H, W) float32 metres, 0 = unknown",
    "disparity": "(H, W) float32 pixels of the photo's width, 0 = unknown",
    "normals": "(H, W, 3) float32 unit vectors in camera axes (x right, y up, z towards the camera), 0 = unknown",
    "boxes": "(N, 6) float32 x0, y0, x1, y1, class id, number of the object; x1 and y1 exclusive",
    "pose": "(N, 17, 3) float32 x, y, visibility (0 unlabelled, 1 hidden, 2 seen) of COCO's 17 joints of N persons",
    "keypoints": "(N, K, 3) float32 likewise, of the K points the source names",
    "target": "uint8 RGB (H, W, 3), a picture that belongs to the photo: its clean, stylised or second view",
}


@dataclass(frozen=True)
class Sample:
    """One grid of pictures and native annotations.

    Attributes:
        key: unique within its source; stable between runs and machines.
        group: what a split keeps together: the video of a clip, the photo of a crop, the scene, the object.
        source: the name of the source in the recipe.
        split: "train", "val" or "test". A dataset's official split wins, else `split_of(group)`.
        category: a class name, or None.
        frames: T mappings from annotation name to native annotation, decoded when indexed. ``"image"`` is
            uint8 RGB (H, W, 3). Others are what is true, never a picture drawn of it; see `ANNOTATIONS`. All frames
            of a sample have the same names.
    """

    key: str
    group: str
    source: str
    split: str
    category: str | None
    frames: Sequence[Mapping[str, Any]]


def split_of(group: str, val: float = 0.05, test: float = 0.05) -> str:
    """The split of a group, by a hash of its name and never by order: adding files moves nobody.

    Args:
        group: `Sample.group`.
        val, test: fractions in [0, 1] of groups held out.
    """
    u = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "little") / 2**64
    return "test" if u < test else "val" if u < test + val else "train"
