"""What the ray caster needs to know of a batch of scenes: `pack` brings them into tensors, one row per view.

In: `Scene`s. Out: `Views`. A view is one frame of a scene. All that would be computed per view and slot, not per ray,
is computed here, on one scene at a time in float64, so that the numbers of a view do not depend on its batch.

Legend: B views, S slots (0 the ground, 1.. the parts of objects, padded), N pairs of one shape.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lvmlite.data.sources.scenes import SHAPES, Scene

FAR = 25.0  # metres of planar depth at which the ground ends in haze
SKY = -1  # slot of a ray that meets nothing
GROUND_SHAPE = len(SHAPES)
LEVEL_GROUND_SHAPE = GROUND_SHAPE + 1  # `Scene.ground`

LOOK = ("to_unit", "to_camera", "half", "pattern", "colours", "shape", "texture", "gloss")
LOOK_SIZES = (12, 9, 3, 6, 6, 1, 1, 1)
LOOK_ROWS = {n: (sum(LOOK_SIZES[:i]), k) for i, (n, k) in enumerate(zip(LOOK, LOOK_SIZES, strict=True))}


@dataclass(frozen=True)
class Views:
    """What the renderer needs to know of B views, float32 tensors on one device.

    Attributes:
        pairs: for each shape (views, slots), two (N,) int64 tensors: where objects of this shape are.
        to_unit: (B, S, 3, 4) a camera point (x, y, z, 1) into a slot's unit coordinates.
        sun_unit: (B, S, 3) direction of the sun in unit coordinates (not unit length).
        look: (F, B * S) what the nearest hit looks up, one row per number; `LOOK` names the rows.
        tan_half_fov, sun_strength, ambient: (B,). sun, up: (B, 3) in camera axes.
        sky: (B, 2, 3) linear colours at the horizon and overhead; without a ground at the picture's bottom and top.
        ground: (B,) 1 where there is one, else 0.
        frame: (B, S, 4) of a slot, where it may be seen: left, right, bottom, top; the picture is [-1, 1] each way.
        ball: (B, S, 4) centre in camera axes and radius of a sphere around a slot.
        uneven: whether any sphere or cylinder is an ellipsoid or has an elliptical section.
    """

    pairs: tuple[tuple[Tensor, Tensor], ...]
    to_unit: Tensor
    sun_unit: Tensor
    look: Tensor
    tan_half_fov: Tensor
    sun_strength: Tensor
    ambient: Tensor
    sun: Tensor
    up: Tensor
    sky: Tensor
    ground: Tensor
    frame: Tensor
    ball: Tensor
    uneven: bool


def pack(scenes: Sequence[Scene], device: str | torch.device = "cpu") -> Views:
    """All frames of the scenes, in order, as one batch. Numbers of a scene do not depend on the others."""
    slots = 1 + max(len(s.shape) for s in scenes)
    rows = [_pack_scene(s, slots) for s in scenes]
    shape = np.concatenate([r.pop("shape_of_slot") for r in rows])
    joined = {k: torch.from_numpy(np.concatenate([r[k] for r in rows]).astype(np.float32)).to(device) for k in rows[0]}
    pairs = [np.nonzero(shape == s) for s in range(len(SHAPES))]
    look = [joined[k] if k in joined else joined.pop(f"look_{k}") for k in LOOK]
    return Views(
        pairs=tuple((torch.from_numpy(b).to(device), torch.from_numpy(k).to(device)) for b, k in pairs),
        look=torch.cat([rows.reshape(shape.size, -1).T for rows in look]),
        uneven=any(_is_uneven(s) for s in scenes),
        **joined,
    )


def _pack_scene(scene: Scene, slots: int) -> dict[str, np.ndarray]:
    """Arrays of one scene's T views, in float64: everything the renderer would else compute per batch."""
    frames, count = scene.position.shape[:2]
    used = slice(0, count + 1)
    half = np.ones((slots, 3))
    half[1 : count + 1] = scene.half
    rotation = np.tile(np.eye(3), (frames, slots, 1, 1))
    rotation[:, 1 : count + 1] = scene.rotation
    position = np.zeros((frames, slots, 3))
    position[:, 1 : count + 1] = scene.position
    camera = scene.camera_rotation[:, None]  # (T, 1, 3, 3)
    inward = rotation.swapaxes(2, 3) / half[..., None]  # world -> unit
    offset = scene.camera_position[:, None] - position
    origin = (inward * offset[:, :, None]).sum(3)
    to_unit = np.concatenate([_product(inward, camera), origin[..., None]], 3)
    to_camera = _product(camera.swapaxes(2, 3), rotation)

    def padded(values: np.ndarray) -> np.ndarray:
        whole = np.zeros((slots, values[0].size))
        whole[used] = values.reshape(count + 1, -1)
        return np.broadcast_to(whole, (frames, *whole.shape))

    def constant(values: np.ndarray | float) -> np.ndarray:
        return np.broadcast_to(values, (frames, *np.shape(values)))

    to_eye = ((position - scene.camera_position[:, None])[..., None] * camera).sum(2)  # (T, S, 3) centres
    reach = np.where(np.isin(np.arange(slots) - 1, np.nonzero(scene.shape == 0)), half.max(1), _length(half))
    shape_of_slot = np.full((frames, slots), -1)
    ground_shape = LEVEL_GROUND_SHAPE if scene.ground == "level" else GROUND_SHAPE
    shape_of_slot[:, used] = [ground_shape, *scene.shape]
    return {
        "shape_of_slot": shape_of_slot,
        "to_unit": to_unit,
        "sun_unit": (inward * scene.sun).sum(3),
        "look_to_camera": to_camera,
        "look_half": constant(half),
        "look_pattern": padded(scene.pattern),
        "look_colours": padded(scene.colours**2),
        "look_shape": shape_of_slot,
        "look_texture": padded(scene.texture[:, None]),
        "look_gloss": padded(scene.gloss[:, None]),
        "tan_half_fov": constant(scene.tan_half_fov),
        "sun_strength": constant(scene.sun_strength),
        "ambient": constant(scene.ambient),
        "sun": (scene.camera_rotation * scene.sun[:, None]).sum(1),
        "up": scene.camera_rotation[:, 1],
        "sky": constant(scene.sky**2),
        "ground": constant(float(scene.ground != "none")),
        "frame": _frame(to_eye, to_camera * half[:, None], scene.tan_half_fov),
        "ball": np.concatenate([to_eye, constant(reach[:, None])], 2),
    }


def _frame(centre: np.ndarray, axes: np.ndarray, tan_half_fov: float) -> np.ndarray:
    """`Views.frame` (T, S, 4) from centres (T, S, 3) and half-axes, in columns (T, S, 3, 3), in camera axes.

    It bounds the corners of the box around a slot, with a margin far above what float32 rounds; a box that reaches
    behind the camera may be seen anywhere.
    """
    signs = np.array(list(itertools.product((-1, 1), repeat=3)))
    corners = centre[..., None, :] + (axes[..., None, :, :] * signs[:, None]).sum(-1)  # (T, S, 8, 3)
    near = -corners[..., 2]
    at = corners[..., :2] / (np.maximum(near, 1e-3) * tan_half_fov)[..., None]
    low, high = at.min(2) - 0.02, at.max(2) + 0.02
    frame = np.stack([low[..., 0], high[..., 0], low[..., 1], high[..., 1]], -1)
    return np.where((near.min(2) > 0.05)[..., None], frame, np.array([-2.0, 2.0, -2.0, 2.0]))


def _is_uneven(scene: Scene) -> bool:
    unlike = (scene.half[:, 0] != scene.half[:, 2]) | ((scene.shape == 0) & (scene.half[:, 0] != scene.half[:, 1]))
    return bool((unlike & (scene.shape != SHAPES.index("box"))).any())


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt((vectors**2).sum(-1))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of (..., 3, 3) matrices by plain arithmetic: the bits depend on no linear algebra library."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def steps(size: int, count: int, device: torch.device) -> Tensor:
    """(count,) centres of pixels from left to right; the picture's `size` pixels span [-1, 1]."""
    return (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1


def plane_axes(views: Views, size: int) -> tuple[Tensor, Tensor]:
    """Where rays cross the plane at depth 1: x (B, 1, W) to the right and y (B, H, 1) upwards."""
    at = steps(size, size, views.sun.device)
    tan = views.tan_half_fov[:, None, None]
    return at[None, None, :] * tan, -at[None, :, None] * tan
