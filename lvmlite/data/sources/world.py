"""The `world` source: procedural scenes of spheres, boxes and cylinders with exact annotations.

In: how many scenes of each split, of how many frames and pixels. Out: `Sample`s with every dense annotation,
boxes and keypoints for every frame. Nothing is read from disk; scene i of a split is a function of
(seed, split, i) alone. scenes.py says what is drawn and what only "test" has; raycast.py draws it.

Annotations of a frame, beside "image" (H = W = size):
- "depth" (H, W) float32: planar depth (distance along the viewing axis) in metres; 0 = sky.
- "normals" (H, W, 3) float32: unit vectors, x right, y up, z towards the camera; 0 = sky.
- "classes" (H, W) uint8: index into `CLASSES`; every pixel is labelled.
- "instances" (H, W) uint16: 1..K for the objects, the same object in all frames; 0 = sky and ground.
- "boxes" (N, 6) float32: x0, y0, x1, y1, class, instance, of objects with a visible pixel, by instance.
  Pixel edges: pixel (row, column) spans [column, column + 1) x [row, row + 1), so x1 and y1 are exclusive.
- "keypoints" (N, 3, 3) float32, same rows as boxes: x, y, visibility of `KEYPOINTS`, in the same coordinates.
  Visibility as in COCO: 2 = the pixel there shows the object, 1 = it shows something else (hidden),
  0 = outside of the picture, then x = y = 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch

from lvmlite.data.sources.base import Part, Source
from lvmlite.data.sources.raycast import SKY, pack, render
from lvmlite.data.sources.scenes import SHAPES, Scene, sample_scene
from lvmlite.recipe import Range
from lvmlite.sample import SPLITS, Sample

CLASSES = ("unlabelled", "sky", "ground", *SHAPES)
KEYPOINTS = ("centre", "top", "bottom")  # top and bottom: on the vertical through the centre

_RAYS_AT_ONCE = {"cpu": 2**17, "cuda": 2**23}  # a few hundred bytes a ray; on a CPU, what fits its cache


@dataclass
class WorldConfig:
    """Procedural scenes.

    Attributes:
        name: of the source in the recipe.
        train, val, test: number of scenes in each split. Test scenes have something the others never have.
        frames: T of every sample; with more than one, camera and objects move.
        min_objects, max_objects: per scene.
        size: width and height of the frames in pixels.
        supersample: rays per pixel and axis for the picture; annotations are exact at the pixel's centre.
        part_size: scenes per part, the unit of work.
        device: "cpu" or "cuda"; pictures of the two may differ in the last bit.
    """

    source: Literal["world"] = "world"
    name: str = "world"
    train: Annotated[int, Range(0)] = 4000
    val: Annotated[int, Range(0)] = 200
    test: Annotated[int, Range(0)] = 200
    frames: Annotated[int, Range(1)] = 1
    min_objects: Annotated[int, Range(1, 8)] = 1
    max_objects: Annotated[int, Range(1, 8)] = 4
    size: Annotated[int, Range(8, 4096)] = 64
    supersample: Annotated[int, Range(1, 8)] = 2
    part_size: Annotated[int, Range(1)] = 250
    device: str = "cpu"


class World(Source):
    """Scenes drawn on demand.

    Raises:
        ValueError: min_objects above max_objects, or a device that is not there.
    """

    licence = "generated, CC0-1.0"
    annotations: ClassVar[tuple[str, ...]] = (
        "depth",
        "normals",
        "classes",
        "instances",
        "boxes",
        "keypoints",
    )

    def __init__(self, config: WorldConfig, seed: int = 0) -> None:
        if config.min_objects > config.max_objects:
            raise ValueError(
                f"{config.name}: min_objects {config.min_objects} is above max_objects {config.max_objects}"
            )
        if not 0 <= seed < 2**63:
            raise ValueError(f"{config.name}: seed {seed} is not in 0 .. 2**63 - 1")
        available = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        if config.device not in available:
            raise ValueError(f"{config.name}: no device '{config.device}' here; use {' or '.join(available)}")
        self.name, self.config, self.seed = config.name, config, seed

    def parts(self) -> list[Part]:
        counts = {split: getattr(self.config, split) for split in SPLITS}
        if not any(counts.values()):
            raise ValueError(f"{self.name}: no scenes; set train, val or test above 0")
        size = self.config.part_size
        return [
            Part(
                f"{split}-{start // size:06d}",
                tuple(_key(split, i) for i in range(start, min(start + size, n))),
            )
            for split, n in counts.items()
            for start in range(0, n, size)
        ]

    def samples(self, part: Part) -> Iterator[Sample]:
        scenes = (self.scene(key) for key in part.items)
        for key, frames in zip(part.items, self._frames(scenes), strict=True):
            yield Sample(key, key, self.name, key.split("/")[0], None, frames)

    def sample(self, key: str) -> Sample:
        (frames,) = self._frames(iter([self.scene(key)]))
        return Sample(key, key, self.name, key.split("/")[0], None, frames)

    def scene(self, key: str) -> Scene:
        """What the sample of this key shows. Raises KeyError."""
        match = re.fullmatch(r"(\w+)/(\d+)", key)
        if not match or match[1] not in SPLITS or key != _key(match[1], int(match[2])):
            raise KeyError(key)
        split, index, c = match[1], int(match[2]), self.config
        if index >= getattr(c, split):
            raise KeyError(key)
        return sample_scene(self.seed, split, index, c.frames, c.min_objects, c.max_objects)

    def _frames(self, scenes: Iterator[Scene]) -> Iterator[list[dict[str, Any]]]:
        """The frames of each scene, rendered in batches of bounded memory."""
        rays = (self.config.size * self.config.supersample) ** 2
        at_once = max(1, _RAYS_AT_ONCE[self.config.device] // rays)
        for batch in _batches(scenes, self.config.frames, at_once):
            frames: list[dict[str, Any]] = []
            # One scene of many frames may need several calls; many short scenes share one.
            for clips in _clips(batch, at_once):
                frames += self._render(clips)
            for i in range(0, len(frames), self.config.frames):
                yield frames[i : i + self.config.frames]

    def _render(self, scenes: list[Scene]) -> list[dict[str, Any]]:
        tensors = render(pack(scenes, self.config.device), self.config.size, self.config.supersample)
        out = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        views = ((scene, t) for scene in scenes for t in range(len(scene.position)))
        return [_annotate(scene, t, {k: v[i] for k, v in out.items()}) for i, (scene, t) in enumerate(views)]


def _key(split: str, index: int) -> str:
    return f"{split}/{index:06d}"


def _batches(scenes: Iterator[Scene], frames: int, at_once: int) -> Iterator[list[Scene]]:
    batch: list[Scene] = []
    for scene in scenes:
        batch.append(scene)
        if (len(batch) + 1) * frames > at_once:
            yield batch
            batch = []
    if batch:
        yield batch


def _clips(scenes: list[Scene], at_once: int) -> Iterator[list[Scene]]:
    """The scenes as they are, or a single one that is too long cut into clips."""
    frames = len(scenes[0].position)
    if len(scenes) > 1 or frames <= at_once:
        yield scenes
        return
    over_time = ("position", "rotation", "camera_position", "camera_rotation", "azimuth", "elevation")
    for start in range(0, frames, at_once):
        part = slice(start, start + at_once)
        yield [replace(scenes[0], **{name: getattr(scenes[0], name)[part] for name in over_time})]


def _annotate(scene: Scene, t: int, view: dict[str, np.ndarray]) -> dict[str, Any]:
    """One frame: copies of what was rendered, and what follows from which slot each pixel shows."""
    slot = view["slot"]
    class_of_slot = np.array([CLASSES.index("ground"), *(3 + scene.shape), CLASSES.index("sky")], dtype=np.uint8)
    assert SKY == -1  # the last entry
    classes = class_of_slot[slot]
    instances = np.maximum(slot, 0).astype(np.uint16)
    boxes = _boxes(instances, class_of_slot)
    points = _keypoints(scene, t, slot)
    return {
        "image": view["image"].copy(),
        "depth": view["depth"].copy(),
        "normals": view["normals"].copy(),
        "classes": classes,
        "instances": instances,
        "boxes": boxes,
        "keypoints": points[boxes[:, 5].astype(int) - 1],
    }


def _boxes(instances: np.ndarray, class_of_slot: np.ndarray) -> np.ndarray:
    rows = []
    for instance in range(1, len(class_of_slot) - 1):
        mask = instances == instance
        if mask.any():
            x, y = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
            rows.append([x[0], y[0], x[-1] + 1, y[-1] + 1, class_of_slot[instance], instance])
    return np.array(rows, dtype=np.float32).reshape(-1, 6)


def _keypoints(scene: Scene, t: int, slot: np.ndarray) -> np.ndarray:
    """(K, 3, 3) float32, see the top of this file."""
    size = len(slot)
    axis_y = scene.rotation[t, :, 1, 1]
    upright = np.abs(axis_y) > 0.5  # spheres are the same either way
    half = np.where(upright | (scene.shape == 0), scene.half[:, 1], scene.half[:, 0])
    points = scene.position[t][:, None] + half[:, None, None] * np.array([[0.0, 0, 0], [0, 1, 0], [0, -1, 0]])
    camera = (points - scene.camera_position[t]) @ scene.camera_rotation[t]
    scale = size / 2 / (scene.tan_half_fov * -camera[..., 2])
    x, y = size / 2 + camera[..., 0] * scale, size / 2 - camera[..., 1] * scale
    inside = (camera[..., 2] < 0) & (x >= 0) & (x < size) & (y >= 0) & (y < size)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    instance = np.arange(1, len(half) + 1)[:, None]
    shown = slot[y.astype(int), x.astype(int)] == instance
    return np.stack([x, y, np.where(inside, 1 + shown, 0)], -1).astype(np.float32)
