"""The `world` source: procedural scenes with exact annotations. Nothing is read from disk.

In: a content, how many scenes of each split, of how many frames and pixels. Out: `Sample`s. Scene i of a split is a
function of (seed, split, i) alone. raycast.py draws what these three files describe, and each of them says what only
"test" has:
- "objects" (scenes.py): spheres, boxes and cylinders on a ground, moving if there are several frames.
- "turntable" (turntable.py): one object composed of several parts, seen from all around; frames are its views.
- "figures" (figures.py): one or two persons who walk, wave or crouch.

Annotations of a frame, beside "image" (H = W = size):
- "depth" (H, W) float32: planar depth (distance along the viewing axis) in metres; 0 = sky, or backdrop.
- "normals" (H, W, 3) float32: unit vectors, x right, y up, z towards the camera; 0 = sky.
- "classes" (H, W) uint8: index into `CLASSES`; every pixel is labelled. Parts of a turntable's object have the class
  of their shape, its backdrop is sky.
- "instances" (H, W) uint16: 1..N for the objects, the same object in all frames; 0 = sky and ground. The whole object
  of a turntable is 1, so this is its mask.
- "boxes" (N, 6) float32: x0, y0, x1, y1, class, instance, of objects with a visible pixel, by instance.
  Pixel edges: pixel (row, column) spans [column, column + 1) x [row, row + 1), so x1 and y1 are exclusive.
  Not of turntables.
- "keypoints" (N, 3, 3) float32, same rows as boxes: x, y, visibility of `KEYPOINTS`, in the same coordinates.
  Visibility as in COCO: 2 = the pixel there shows the object, 1 = it shows something else (hidden),
  0 = outside of the picture, then x = y = 0. Of "objects" only.
- "pose" (N, 17, 3) float32, same rows as boxes: likewise, of COCO's joints (`skeleton.JOINTS`), projected from where
  they are inside the limbs; 2 = the pixel there shows this figure no further in front of the joint than the limb is
  thick. Of "figures" only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch

from lvmlite.data.sources.base import Part, Source
from lvmlite.data.sources.figures import sample_figures
from lvmlite.data.sources.raycast import render
from lvmlite.data.sources.scenes import CLASSES, Scene, sample_scene
from lvmlite.data.sources.turntable import VIEWS, sample_turntable
from lvmlite.data.sources.views import SKY, pack
from lvmlite.recipe import Range
from lvmlite.sample import SPLITS, Sample

KEYPOINTS = ("centre", "top", "bottom")  # top and bottom: on the vertical through the centre

_ANNOTATIONS: dict[str, tuple[str, ...]] = {
    "objects": ("depth", "normals", "classes", "instances", "boxes", "keypoints"),
    "turntable": ("depth", "normals", "classes", "instances"),
    "figures": ("depth", "normals", "classes", "instances", "boxes", "pose"),
}
_RAYS_AT_ONCE = {"cpu": 2**17, "cuda": 2**23}  # a few hundred bytes a ray; on a CPU, what fits its cache


@dataclass
class WorldConfig:
    """Procedural scenes.

    Attributes:
        name: of the source in the recipe.
        train, val, test: number of scenes in each split. Test scenes have something the others never have.
        content: what the scenes show, see the top of world.py.
        frames: T of every sample; with more than one, camera and objects move. Of turntables the number of views,
            360 / T degrees apart. None is 24 views of turntables, else 1.
        min_objects, max_objects: per scene of "objects".
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
    content: Literal["objects", "turntable", "figures"] = "objects"
    frames: Annotated[int, Range(1)] | None = None
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
        self.annotations, self.views = _ANNOTATIONS[config.content], config.content == "turntable"
        self.frames = config.frames or (VIEWS if self.views else 1)

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
        if c.content == "turntable":
            return sample_turntable(self.seed, split, index, self.frames)
        if c.content == "figures":
            return sample_figures(self.seed, split, index, self.frames)
        return sample_scene(self.seed, split, index, self.frames, c.min_objects, c.max_objects)

    def _frames(self, scenes: Iterator[Scene]) -> Iterator[list[dict[str, Any]]]:
        """The frames of each scene, rendered in batches of bounded memory."""
        rays = (self.config.size * self.config.supersample) ** 2
        at_once = max(1, _RAYS_AT_ONCE[self.config.device] // rays)
        for batch in _batches(scenes, self.frames, at_once):
            frames: list[dict[str, Any]] = []
            # One scene of many frames may need several calls; many short scenes share one.
            for clips in _clips(batch, at_once):
                frames += self._render(clips)
            for i in range(0, len(frames), self.frames):
                yield frames[i : i + self.frames]

    def _render(self, scenes: list[Scene]) -> list[dict[str, Any]]:
        tensors = render(pack(scenes, self.config.device), self.config.size, self.config.supersample)
        out = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        views = ((scene, t) for scene in scenes for t in range(len(scene.position)))
        return [self._annotate(scene, t, {k: v[i] for k, v in out.items()}) for i, (scene, t) in enumerate(views)]

    def _annotate(self, scene: Scene, t: int, view: dict[str, np.ndarray]) -> dict[str, Any]:
        """One frame: copies of what was rendered, and what follows from which slot each pixel shows."""
        assert SKY == -1  # the last entry of both
        class_of_slot = np.array([CLASSES.index("ground"), *scene.classes, CLASSES.index("sky")], dtype=np.uint8)
        instance_of_slot = np.array([0, *scene.instances, 0], dtype=np.uint16)
        instances = instance_of_slot[view["slot"]]
        frame = {
            "image": view["image"].copy(),
            "depth": view["depth"].copy(),
            "normals": view["normals"].copy(),
            "classes": class_of_slot[view["slot"]],
            "instances": instances,
        }
        if "boxes" in self.annotations:
            frame["boxes"] = _boxes(scene, instances)
            rows = frame["boxes"][:, 5].astype(int) - 1
            if "pose" in self.annotations:
                frame["pose"] = _pose(scene, t, frame)[rows]
            else:
                frame["keypoints"] = _keypoints(scene, t, instances)[rows]
        return frame


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
    over_time: tuple[str, ...] = ("position", "rotation", "camera_position", "camera_rotation", "azimuth", "elevation")
    over_time += ("joints",) if scenes[0].joints is not None else ()
    for start in range(0, frames, at_once):
        part = slice(start, start + at_once)
        yield [replace(scenes[0], **{name: getattr(scenes[0], name)[part] for name in over_time})]


def _boxes(scene: Scene, instances: np.ndarray) -> np.ndarray:
    rows = []
    numbers, first = np.unique(scene.instances, return_index=True)
    for instance, of_class in zip(numbers, scene.classes[first]):
        mask = instances == instance
        if mask.any():
            x, y = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
            rows.append([x[0], y[0], x[-1] + 1, y[-1] + 1, of_class, instance])
    return np.array(rows, dtype=np.float32).reshape(-1, 6)


def _keypoints(scene: Scene, t: int, instances: np.ndarray) -> np.ndarray:
    """(K, 3, 3) float32, see the top of this file."""
    axis_y = scene.rotation[t, :, 1, 1]
    upright = np.abs(axis_y) > 0.5  # spheres are the same either way
    half = np.where(upright | (scene.shape == 0), scene.half[:, 1], scene.half[:, 0])
    points = scene.position[t][:, None] + half[:, None, None] * np.array([[0.0, 0, 0], [0, 1, 0], [0, -1, 0]])
    x, y, _, inside = _project(scene, t, points, len(instances))
    shown = instances[y.astype(int), x.astype(int)] == np.arange(1, len(half) + 1)[:, None]
    return np.stack([x, y, np.where(inside, 1 + shown, 0)], -1).astype(np.float32)


def _pose(scene: Scene, t: int, frame: dict[str, Any]) -> np.ndarray:
    """(N, 17, 3) float32, see the top of this file."""
    assert scene.joints is not None
    assert scene.reach is not None
    x, y, depth, inside = _project(scene, t, scene.joints[t], len(frame["depth"]))
    at = y.astype(int), x.astype(int)
    own = frame["instances"][at] == np.arange(1, len(x) + 1)[:, None]
    shown = own & (depth - frame["depth"][at] < scene.reach)
    return np.stack([x, y, np.where(inside, 1 + shown, 0)], -1).astype(np.float32)


def _project(scene: Scene, t: int, points: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """x, y, depth and whether in the picture, (N, P) each, of points (N, P, 3); x = y = 0 where not."""
    camera = (points - scene.camera_position[t]) @ scene.camera_rotation[t]
    scale = size / 2 / (scene.tan_half_fov * -camera[..., 2])
    x, y = size / 2 + camera[..., 0] * scale, size / 2 - camera[..., 1] * scale
    inside = (camera[..., 2] < 0) & (x >= 0) & (x < size) & (y >= 0) & (y < size)
    return np.where(inside, x, 0), np.where(inside, y, 0), -camera[..., 2], inside
