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
            uint8 RGB (H, W, 3). Others are what is true, never a picture: ``"classes"`` (H, W) uint8/uint16 ids
            with 0 = unlabelled, ``"instances"`` (H, W) uint16 with 0 = background, ``"depth"`` (H, W) float32
            metres with 0 = unknown, ``"normals"`` (H, W, 3) float32 unit vectors in camera axes (x right, y up,
            z towards the camera) with 0 = unknown.
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
