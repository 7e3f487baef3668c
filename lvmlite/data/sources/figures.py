"""Articulated figures of the `world` source: who stands where, wears and does what, from (seed, split, index).

In: a seed, a split, an index, the number of frames. Out: a `Scene` of one or two figures on the ground of scenes.py;
skeleton.py says how a body moves. With more than one frame, walkers go round a circle and the camera sways.

Every test scene has something that train and val never have (`Scene.held_out` says what):
- "outfit": the first figure's shirt has a texture that is never worn with its action, `HELD_OUT_COMBINATIONS`.
  Every action, and every texture of a shirt, occurs in train. Trousers obey the same rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lvmlite.data.sources.scenes import (
    CLASSES,
    FIELDS_OF_VIEW,
    SHAPES,
    TEXTURES,
    TRAIN_HUES,
    Look,
    Scene,
    camera_path,
    direction,
    draw_hue,
    draw_sky,
    ground_look,
    hsv,
    look_from,
    object_look,
    stand_off,
    stream,
)
from lvmlite.data.sources.skeleton import ACTIONS, JOINTS, Body, Build, act, pose

HELD_OUT = ("outfit",)
OUTFITS = ("solid", "checker", "stripes", "dots", "grid")  # textures of clothes
HELD_OUT_COMBINATIONS = frozenset({("walk", "checker"), ("wave", "stripes"), ("crouch", "dots")})
_SKIN = ((24.0, 0.28, 0.97), (26.0, 0.4, 0.87), (25.0, 0.5, 0.7), (22.0, 0.55, 0.5), (20.0, 0.55, 0.35))
_HAIR = ((25.0, 0.5, 0.12), (25.0, 0.6, 0.3), (40.0, 0.6, 0.75), (18.0, 0.7, 0.5), (30.0, 0.05, 0.7))  # hue, s, v
_ROOM = 1.05  # metres between the middles of two figures, at least


@dataclass(frozen=True)
class Figure:
    """What one figure does and wears: of ACTIONS, and textures of OUTFITS."""

    action: str
    shirt: str
    trousers: str


def sample_figures(seed: int, split: str, index: int, frames: int = 1) -> Scene:
    """Draw one scene. Arguments as of `scenes.sample_scene`."""
    assert frames >= 1
    rng = stream(seed, split, index, content=2)
    time = np.arange(frames, dtype=np.float64)
    figures = draw_figures(rng, split)
    azimuth, elevation, zoom = camera_path(rng, False, time)
    bodies = _bodies(rng, figures, math.radians(azimuth[0]), time)
    looks: list[Look] = [ground_look(rng)]
    for figure, body in zip(figures, bodies):
        wardrobe = _wardrobe(rng, figure)
        looks += [wardrobe[worn] for worn in body.worn]
    texture, colours, pattern, gloss = zip(*looks)

    # The whole of every figure is in the picture at all times.
    points = np.concatenate([p for b in bodies for p in (np.stack(b.position, 1), _crown(b)[:, None])], 1)
    extent = np.full(points.shape[1], 0.15)
    middle = (points.min((0, 1)) + points.max((0, 1))) / 2
    tan_half_fov = math.tan(math.radians(rng.uniform(*FIELDS_OF_VIEW)) / 2)
    turned = look_from(azimuth, elevation)
    stands = stand_off(points, extent, turned, 0.92 * tan_half_fov * rng.uniform(0.8, 1.0), zoom, middle)
    sun = direction(np.array(math.radians(rng.uniform(-60, 60))), np.array(math.radians(rng.uniform(30, 60))))
    of_figure = np.repeat(np.arange(1, len(bodies) + 1), [len(b.shape) for b in bodies])
    return Scene(
        split, index, frozenset(HELD_OUT) if split == "test" else frozenset(),
        np.array([SHAPES.index(s) for b in bodies for s in b.shape]), np.array(texture),
        np.array([half for b in bodies for half in b.half]), np.zeros(len(of_figure)), np.array(colours),
        np.array(pattern), np.array(gloss), np.stack([p for b in bodies for p in b.position], 1),
        np.stack([r for b in bodies for r in b.rotation], 1), stands, turned, azimuth, elevation, tan_half_fov, sun,
        rng.uniform(0.6, 0.9), rng.uniform(0.3, 0.45), draw_sky(rng),
        np.full(len(of_figure), CLASSES.index("figure")), of_figure,
        joints=np.stack([np.stack([b.joints[name] for name in JOINTS], 1) for b in bodies], 1),
        ground="level", reach=np.array([[b.reach[name] for name in JOINTS] for b in bodies]),
    )  # fmt: skip


def draw_figures(rng: np.random.Generator, split: str) -> list[Figure]:
    """One or two figures, the first draws of a scene; in "test" the first shirt, and half of a second, are held out."""
    figures = []
    for k in range(int(rng.integers(1, 3))):
        action = ACTIONS[int(rng.integers(len(ACTIONS)))]
        known = [t for t in OUTFITS if (action, t) not in HELD_OUT_COMBINATIONS]
        new = [t for t in OUTFITS if t not in known]
        shirts = new if split == "test" and (k == 0 or rng.random() < 0.5) else known
        shirt = shirts[int(rng.integers(len(shirts)))]
        trousers = "solid" if rng.random() < 0.6 else known[int(rng.integers(len(known)))]
        figures.append(Figure(action, shirt, trousers))
    return figures


def _bodies(rng: np.random.Generator, figures: list[Figure], azimuth: float, time: np.ndarray) -> list[Body]:
    """The figures in motion, never closer than `_ROOM`, and in frame 0 side by side as seen from `azimuth`.

    One that finds no room tries again further out, so this ends.
    """
    right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
    back = np.array([math.sin(azimuth), 0.0, math.cos(azimuth)])
    bodies: list[Body] = []
    paths: list[np.ndarray] = []
    for figure in figures:
        build = Build(rng.uniform(1.5, 1.9), rng.uniform(0.88, 1.2))
        angles, speed = act(figure.action, rng, time, build)
        heading = rng.uniform(0, 2 * np.pi) + np.zeros(len(time))
        path = np.zeros((len(time), 3))
        if figure.action == "walk":
            radius = rng.uniform(0.8, 1.4) * (1 if rng.random() < 0.5 else -1)
            heading = heading + speed / radius * time
            # Ahead is (sin, 0, cos) of the heading; this is the circle with that direction.
            path = radius * np.stack([-np.cos(heading), np.zeros(len(time)), np.sin(heading)], -1)
            path = path - path[0]
        apart = 0.7
        while True:
            moved = path + right * rng.uniform(-apart, apart) + back * rng.uniform(-0.6, 0.6) * apart
            if all(
                float(((moved - other) ** 2).sum(1).min()) > _ROOM**2 and abs(float((moved - other)[0] @ right)) > 0.6
                for other in paths
            ):
                break
            apart *= 1.06
        body = pose(angles, build, heading, figure.action != "walk", bool(rng.random() < 0.5))
        body.move(moved)
        bodies.append(body)
        paths.append(moved)
    return bodies


def _crown(body: Body) -> np.ndarray:
    """(T, 3) the top of the hair."""
    hair = body.worn.index("hair")
    return body.position[hair] + np.array([0.0, body.half[hair][1], 0.0])


def _wardrobe(rng: np.random.Generator, figure: Figure) -> dict[str, Look]:
    """Looks of what a body is made of and wears."""

    def plain(hue: float, saturation: float, value: float, gloss: float) -> Look:
        return 0, np.stack([hsv(hue, saturation, value)] * 2), np.zeros((2, 3)), gloss

    looks = {
        "skin": plain(*_SKIN[int(rng.integers(len(_SKIN)))], 0.1),
        "hair": plain(*_HAIR[int(rng.integers(len(_HAIR)))], 0.15),
        "eyes": plain(220.0, 0.3, 0.1, 0.4),
        "shoes": plain(rng.uniform(0, 360), rng.uniform(0, 0.6), rng.uniform(0.12, 0.9), 0.2),
    }
    for worn, texture, size in (("shirt", figure.shirt, 0.13), ("trousers", figure.trousers, 0.1)):
        index, colours, pattern, _ = object_look(rng, TEXTURES.index(texture), draw_hue(rng, TRAIN_HUES), size)
        shade = 1.0 if worn == "shirt" else rng.uniform(0.45, 0.85)
        looks[worn] = index, colours * shade, pattern, 0.03
    return looks
