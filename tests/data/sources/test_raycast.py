"""The ray caster: exact geometry against closed forms and a float64 reference, shadows, exact rounding."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from lvmlite.data.sources.figures import sample_figures
from lvmlite.data.sources.raycast import render
from lvmlite.data.sources.scenes import SHAPES, TEXTURES, Scene, sample_scene
from lvmlite.data.sources.turntable import sample_turntable
from lvmlite.data.sources.views import FAR, SKY, pack
from lvmlite.sample import SPLITS


def still(shape: str, half: tuple[float, float, float], tan_half_fov: float = 0.5) -> Scene:
    """One object at (0, 10, 0), high above the ground, seen from 4 metres in front, without rotation."""
    base = sample_scene(0, "train", 0, 1, 1, 1)
    return replace(
        base,
        shape=np.array([SHAPES.index(shape)]),
        half=np.array([half]),
        position=np.array([[[0.0, 10.0, 0.0]]]),
        rotation=np.eye(3)[None, None],
        camera_position=np.array([[0.0, 10.0, 4.0]]),
        camera_rotation=np.eye(3)[None],
        tan_half_fov=tan_half_fov,
    )


def test_unit_sphere_straight_ahead() -> None:
    size = 101
    out = {k: v[0].numpy() for k, v in render(pack([still("sphere", (1.0, 1.0, 1.0))]), size, 1).items()}
    centre = size // 2
    assert out["depth"][centre, centre] == pytest.approx(3.0, abs=1e-5)
    assert out["normals"][centre, centre] == pytest.approx([0, 0, 1], abs=1e-5)
    # The silhouette of a sphere of radius 1 at distance 4 is a cone of slope 1 / sqrt(15).
    radius = size / 2 / 0.5 / math.sqrt(15)
    seen = out["slot"] == 1
    assert seen.sum() == pytest.approx(math.pi * radius**2, rel=0.01)
    row, column = np.nonzero(seen)
    assert np.hypot(row - centre, column - centre).max() <= radius
    # A little right of and above the centre, the normal leans right and up.
    assert (out["normals"][centre - 8, centre + 8, :2] > 0.1).all()


def test_faces_seen_straight_on() -> None:
    box = render(pack([still("box", (0.5, 0.25, 1.0))]), 101, 1)
    assert box["depth"][0, 50, 50] == pytest.approx(3.0)
    assert box["normals"][0, 50, 50].tolist() == [0, 0, 1]
    seen = box["slot"][0] == 1
    assert seen.any(0).sum() == pytest.approx(101 * 0.5 / (3 * 0.5), abs=1)
    assert seen.any(1).sum() == pytest.approx(101 * 0.25 / (3 * 0.5), abs=1)
    cylinder = render(pack([still("cylinder", (0.5, 0.8, 0.5))]), 101, 1)
    assert cylinder["depth"][0, 50, 50] == pytest.approx(3.5)
    assert cylinder["normals"][0, 50, 50].tolist() == [0, 0, 1]


def reference_depth(scene: Scene, size: int) -> np.ndarray:
    """Depths of frame 0 in float64, done the other way: each surface on its own, in metres."""
    steps = ((np.arange(size) + 0.5) * 2 / size - 1) * scene.tan_half_fov
    x, y = np.meshgrid(steps, -steps)
    rays = np.stack([x, y, -np.ones_like(x)], -1).reshape(-1, 3) @ scene.camera_rotation[0].T
    eye = scene.camera_position[0]
    with np.errstate(all="ignore"):
        hits = [-eye[1] / rays[:, 1]]
        hits[0] = np.where((hits[0] > 0) & (hits[0] < FAR), hits[0], np.inf)
        for k, shape in enumerate(scene.shape):
            o = (eye - scene.position[0, k]) @ scene.rotation[0, k]
            d = rays @ scene.rotation[0, k]
            half = scene.half[k]
            used = {"sphere": [0, 1, 2], "cylinder": [0, 2]}.get(SHAPES[shape], [])
            surfaces = []
            if used:  # quadric
                a, b = (d[:, used] ** 2).sum(1), d[:, used] @ o[used]
                root = np.sqrt(b * b - a * ((o[used] ** 2).sum() - half[0] ** 2))
                surfaces += [(-b - root) / a, (-b + root) / a]
            if len(used) < 3:  # planes
                axes = [1] if used else [0, 1, 2]
                surfaces += [(side * half[i] - o[i]) / d[:, i] for i in axes for side in (-1, 1)]
            for t in surfaces:
                p = o + t[:, None] * d
                inside = (np.abs(p) <= half + 1e-9).all(1)
                if used:
                    inside = np.abs((p[:, used] ** 2).sum(1)) <= half[0] ** 2 + 1e-9
                    inside &= (np.abs(p[:, 1]) <= half[1] + 1e-9) | (len(used) == 3)
                hits.append(np.where(inside & (t > 0), t, np.inf))
    nearest = np.min(hits, 0)
    return np.where(np.isfinite(nearest), nearest, 0).reshape(size, size)


@pytest.mark.parametrize("index", range(12))
def test_depth_equals_reference(index: int) -> None:
    scene = sample_scene(5, SPLITS[index % 3], index, frames=1, min_objects=3, max_objects=4)
    depth = render(pack([scene]), 48, 1)["depth"][0].numpy()
    truth = reference_depth(scene, 48)
    close = np.isclose(depth, truth, rtol=2e-4, atol=2e-4)
    # A ray that grazes an edge may fall on its other side in float32.
    assert (~close).sum() <= 3
    assert len(np.unique(truth)) > 100


def test_ellipsoid_and_elliptical_cylinder() -> None:
    """Depth and normals where the closed forms are known: (p / half**2), of unit length."""
    for shape, half in (("sphere", (0.6, 0.9, 0.3)), ("cylinder", (0.7, 0.8, 0.25))):
        size, scene = 65, still(shape, half)
        out = {k: v[0].numpy().astype(np.float64) for k, v in render(pack([scene]), size, 1).items()}
        at = ((np.arange(size) + 0.5) * 2 / size - 1) * scene.tan_half_fov
        depth = out["depth"]
        point = np.stack([at[None] * depth, -at[:, None] * depth, 4 - depth], -1)[out["slot"] == 1]
        normal = out["normals"][out["slot"] == 1]
        axes = [0, 1, 2] if shape == "sphere" else [0, 2]
        scaled = point / np.array(half)
        assert np.allclose((scaled[:, axes] ** 2).sum(1), 1, atol=1e-4)
        bent = np.zeros_like(point)
        bent[:, axes] = (scaled / np.array(half))[:, axes]
        assert np.allclose(normal, bent / np.linalg.norm(bent, axis=1, keepdims=True), atol=1e-3)
        assert len(point) > 300


def test_tiles_leave_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking everywhere for every slot, lit or in shadow, gives the same bits."""
    scenes = [sample_scene(2, "train", i, 2) for i in range(6)] + [sample_figures(2, "train", i, 2) for i in range(4)]
    scenes += [sample_turntable(2, "train", i, 2) for i in range(6)]
    views = pack(scenes)
    everywhere = replace(views, frame=torch.tensor([-2.0, 2.0, -2.0, 2.0]).expand_as(views.frame))
    tiled = render(views, 48, 2)
    monkeypatch.setattr(
        "lvmlite.data.sources.raycast._may_shade",
        lambda views, size, depth, slot, count: torch.ones(
            (len(depth), count, count, views.to_unit.shape[1]), dtype=torch.bool
        ),
    )
    for name, values in render(everywhere, 48, 2).items():
        assert torch.equal(values, tiled[name]), name


def test_behind_and_beside_the_camera() -> None:
    """What reaches behind the camera is drawn where it is in front; what is behind is not."""
    wall = replace(still("box", (30.0, 3.0, 0.5)), camera_position=np.array([[25.0, 10.0, 2.0]]))
    turned = np.array([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])  # looks along -x, beside the wall
    along = render(pack([replace(wall, camera_rotation=turned)]), 32, 1)
    assert (along["slot"] == 1).any()
    assert along["depth"][0, 16, 31].item() == pytest.approx(1.5 / (0.5 * 31 / 32), rel=1e-3)
    away = np.diag([-1.0, 1.0, -1.0])[None]
    assert (render(pack([replace(wall, camera_rotation=away)]), 32, 1)["slot"] != 1).all()


@pytest.mark.parametrize("ground", ["level", "creased", "none"])
def test_grounds(ground: Literal["none", "creased", "level"]) -> None:
    scene = replace(still("box", (0.1, 0.1, 0.1)), ground=ground, camera_position=np.array([[0.0, 1.0, 4.0]]))
    texture, pattern = scene.texture.copy(), scene.pattern.copy()
    texture[0], pattern[0] = TEXTURES.index("checker"), [[1, 0, 0.25], [0, 1, 0.25]]
    out = render(pack([replace(scene, texture=texture, pattern=pattern, sky=np.array([[0.2] * 3, [0.8] * 3]))]), 64, 1)
    assert ((out["slot"] == 0).any() and (out["slot"][0, -1] == 0).all()) == (ground != "none")
    assert ((out["normals"] != 0).any(-1) == (out["slot"] != SKY)).all()
    last = out["image"][0, -1].int().sum(-1)
    if ground == "none":
        rows = out["image"][0, :, 0, 0].int()
        assert (rows.diff() <= 0).all()
        assert rows[0] == pytest.approx(0.8 * 255, abs=5)
        assert rows[-1] == pytest.approx(0.2 * 255, abs=5)
        assert (last == last[0]).all()
    else:
        # Straight ahead, on z > 0.5, a level pattern alternates along z; a creased one is mapped along x alone.
        ahead = out["image"][0, :, 32].int().sum(-1)[(out["slot"][0, :, 32] == 0) & (out["depth"][0, :, 32] < 3.5)]
        assert len(ahead) > 10
        assert (len(torch.unique(ahead // 30)) > 1) == (ground == "level")
        assert len(torch.unique(last // 30)) > 1


def test_shadow_is_darker_ground() -> None:
    """Taking away what casts a shadow changes the ground only by making it brighter."""
    scene = sample_scene(1, "train", 4, 1, 2, 2)
    far = replace(scene, position=scene.position + np.array([0.0, 0.0, 1e4]))
    with_, without = (render(pack([s]), 64, 1) for s in (scene, far))
    ground = (with_["slot"] == 0) & (without["slot"] == 0)
    change = with_["image"][ground].int() - without["image"][ground].int()
    assert (change <= 0).all()
    assert (change.sum(1) < -30).float().mean() > 0.02


def test_renderer_uses_only_exactly_rounded_operations() -> None:
    """The bit-identity above rests on this; see the top of raycast.py."""
    scenes = [sample_scene(0, "train", 0), sample_figures(0, "train", 1), sample_turntable(0, "train", 2, 2)]
    with torch.profiler.profile() as profile:
        render(pack(scenes), 16, 2)
    used = {event.name for event in profile.events() or [] if event.name.startswith("aten::")}
    inexact = {
        "sin",
        "cos",
        "exp",
        "log",
        "pow",
        "rsqrt",
        "mm",
        "bmm",
        "sum",
        "mean",
        "atan2",
        "acos",
        "lerp",
    }
    assert "aten::sqrt" in used
    assert not used & {f"aten::{name}" for name in inexact | {"einsum", "addcmul", "norm", "cumsum"}}
