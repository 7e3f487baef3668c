"""Scenes of the `world` source: what stands where, how it looks, how it moves, from (seed, split, index).

In: a seed, a split, an index, the number of frames and of objects. Out: a `Scene`, plain numpy arrays in
metres; raycast.py draws it. World axes: x and z along the ground, y up, the ground is y = 0. A scene is a
function of its arguments alone (one counter-based Philox generator per scene), so any scene is drawn without
the others.

Three things are held out of train and val, and every test scene has at least one of them (`Scene.held_out`
says which; the rest of the scene is drawn as in train):
- "texture": shape x texture pairs in `HELD_OUT_PAIRS`. Shape and texture both occur in train, never together.
- "palette": object hues in `HELD_OUT_HUES` (teal, violet). Ground and sky are not part of this.
- "camera": the whole path of the camera lies in `HELD_OUT_AZIMUTHS` (towards the sun) or in
  `HELD_OUT_ELEVATIONS` (steeper than ever in train).

turntable.py and figures.py draw other scenes with what stands here.

Legend: K parts, T frames. Colours are display RGB in [0, 1].
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lvmlite.sample import SPLITS

SHAPES = ("sphere", "box", "cylinder")
TEXTURES = ("solid", "checker", "stripes", "dots", "grid", "gradient", "waves")
CLASSES = ("unlabelled", "sky", "ground", *SHAPES, "figure")
GROUND_TEXTURES = ("solid", "checker", "stripes", "dots", "grid", "waves")
HELD_OUT = ("texture", "palette", "camera")

HELD_OUT_PAIRS = frozenset({("sphere", "stripes"), ("box", "dots"), ("cylinder", "checker")})
HELD_OUT_HUES = ((150.0, 195.0), (270.0, 315.0))  # degrees
TRAIN_HUES = ((-45.0, 150.0), (195.0, 270.0))
HELD_OUT_AZIMUTHS = (150.0, 210.0)  # degrees; the sun stands at azimuth 0, so these are back-lit
TRAIN_AZIMUTHS = (-150.0, 150.0)
HELD_OUT_ELEVATIONS = (36.0, 52.0)  # degrees above the ground
TRAIN_ELEVATIONS = (8.0, 32.0)
FIELDS_OF_VIEW = (32.0, 58.0)  # degrees, whole angle


@dataclass(frozen=True)
class Scene:
    """One scene over T frames. Row 0 of arrays with K + 1 rows is the ground, row k is part k.

    In scenes of "objects" every part is an object of its own.

    Attributes:
        split, index: where it comes from.
        held_out: what it has that train and val never have, of the names its content lists; empty in train and val.
        shape: (K,) int64, into SHAPES.
        texture: (K + 1,) int64, into TEXTURES.
        half: (K, 3) half-extents in metres along the object's own axes; the axis of a cylinder is y.
        hue: (K,) of the first colour, degrees in [0, 360).
        colours: (K + 1, 2, 3), the two colours a texture mixes.
        pattern: (K + 1, 2, 3): pattern coordinates = pattern @ (u, v, 1), u and v in metres on the surface.
        gloss: (K + 1,) strength of the highlight.
        position: (T, K, 3) centres. rotation: (T, K, 3, 3), columns are the object's axes in the world.
        camera_position: (T, 3). camera_rotation: (T, 3, 3), columns right, up, backwards.
        azimuth, elevation: (T,) of the camera about what it looks at, degrees.
        tan_half_fov: half the width of the picture at depth 1.
        sun: (3,) unit vector towards the sun. sun_strength, ambient: in [0, 1].
        sky: (2, 3) colours at the horizon and overhead; without a ground, at the bottom and the top of the picture.
        classes: (K,) int64, into CLASSES. instances: (K,) int64, the number of the object a part belongs to, from 1.
        ground: "creased": its pattern is mapped along x or z, whichever is longer, so it is broken along the diagonals
            of the world (kept, since pictures in use have it); "level": its pattern is mapped along both; "none".
        joints: (T, N, 17, 3) COCO's joints of the figures 1..N; None where there are none.
        reach: (N, 17) how many metres of a figure may cover a joint that counts as seen.
    """

    split: str
    index: int
    held_out: frozenset[str]
    shape: np.ndarray
    texture: np.ndarray
    half: np.ndarray
    hue: np.ndarray
    colours: np.ndarray
    pattern: np.ndarray
    gloss: np.ndarray
    position: np.ndarray
    rotation: np.ndarray
    camera_position: np.ndarray
    camera_rotation: np.ndarray
    azimuth: np.ndarray
    elevation: np.ndarray
    tan_half_fov: float
    sun: np.ndarray
    sun_strength: float
    ambient: float
    sky: np.ndarray
    classes: np.ndarray
    instances: np.ndarray
    ground: Literal["none", "creased", "level"] = "creased"
    joints: np.ndarray | None = None
    reach: np.ndarray | None = None


def sample_scene(
    seed: int, split: str, index: int, frames: int = 1, min_objects: int = 1, max_objects: int = 4
) -> Scene:
    """Draw one scene. Splits have disjoint streams: the generator's key is (seed, split, index).

    Args:
        seed: in [0, 2**63). index: in [0, 2**40). frames: T >= 1. 1 <= min_objects <= max_objects.
    """
    assert frames >= 1
    assert 1 <= min_objects <= max_objects
    rng = stream(seed, split, index)
    held_out = draw_held_out(rng, HELD_OUT) if split == "test" else frozenset()
    time = np.arange(frames, dtype=np.float64)

    count = int(rng.integers(min_objects, max_objects + 1))
    azimuth, elevation, zoom = camera_path(rng, "camera" in held_out, time)
    kinds = _shapes_and_textures(rng, count, "texture" in held_out)
    hues = draw_hues(rng, count, "palette" in held_out)
    shape = np.array([s for s, _ in kinds])
    half, lying = _sizes(rng, shape)
    position, rotation = _layout(rng, shape, half, lying, math.radians(azimuth[0]), time)
    looks = [object_look(rng, t, h, float(e.min())) for (_, t), h, e in zip(kinds, hues, half)]
    texture, colours, pattern, gloss = zip(ground_look(rng), *looks)

    tan_half_fov = math.tan(math.radians(rng.uniform(*FIELDS_OF_VIEW)) / 2)
    extent = np.where(shape == 0, half[:, 0], np.sqrt((half**2).sum(1)))
    turned = look_from(azimuth, elevation)
    fill = tan_half_fov * min(0.44 + 0.2 * count, 1.1) * rng.uniform(0.85, 1.1)  # a lone object is not shown huge
    stands = stand_off(position, extent, turned, fill, zoom)
    sun_azimuth, sun_elevation = math.radians(rng.uniform(-40, 40)), math.radians(rng.uniform(28, 62))
    sun = direction(np.array(sun_azimuth), np.array(sun_elevation))
    return Scene(
        split, index, held_out, shape, np.array(texture), half, np.array(hues) % 360, np.array(colours),
        np.array(pattern), np.array(gloss), position, rotation, stands, turned, azimuth,
        elevation, tan_half_fov, sun, rng.uniform(0.6, 0.95), rng.uniform(0.22, 0.42), draw_sky(rng),
        3 + shape, np.arange(1, count + 1),
    )  # fmt: skip


def is_held_out_hue(hue: float) -> bool:
    """Whether a hue in degrees lies in `HELD_OUT_HUES`."""
    return any(low <= hue % 360 < high for low, high in HELD_OUT_HUES)


def stream(seed: int, split: str, index: int, content: int = 0) -> np.random.Generator:
    """The generator of a scene: contents, and splits of a content, have disjoint streams. Of "objects" it is 0."""
    assert 0 <= index < 2**40
    key = np.array([seed, content << 48 | SPLITS.index(split) << 40 | index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def draw_held_out(rng: np.random.Generator, names: tuple[str, ...]) -> frozenset[str]:
    """One name, each further one with probability 1/4: most test scenes isolate what is new in them."""
    first = int(rng.integers(len(names)))
    return frozenset(name for i, name in enumerate(names) if rng.random() < 0.25 or i == first)


def camera_path(
    rng: np.random.Generator, held_out: bool, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Azimuth and elevation (T,) in degrees and zoom (T,), swaying within the ranges of the split."""
    azimuths, elevations = TRAIN_AZIMUTHS, TRAIN_ELEVATIONS
    if held_out and rng.random() < 0.5:
        azimuths = HELD_OUT_AZIMUTHS
    elif held_out:
        elevations = HELD_OUT_ELEVATIONS

    def sway(bounds: tuple[float, float], amplitude: float) -> np.ndarray:
        middle = rng.uniform(bounds[0] + amplitude, bounds[1] - amplitude)
        return middle + amplitude * np.sin(2 * np.pi * (time / rng.uniform(20, 32) + rng.random()))

    return sway(azimuths, rng.uniform(5, 14)), sway(elevations, rng.uniform(0, 3)), sway((0.94, 1.06), 0.05)


def _shapes_and_textures(rng: np.random.Generator, count: int, held_out: bool) -> list[tuple[int, int]]:
    """(shape, texture) of every object; with `held_out` the first, and half of the others, are held out."""
    new = [(SHAPES.index(s), TEXTURES.index(t)) for s, t in sorted(HELD_OUT_PAIRS)]
    known = [(s, t) for s in range(len(SHAPES)) for t in range(len(TEXTURES)) if (s, t) not in new]
    pick = []
    for k in range(count):
        pool = new if held_out and (k == 0 or rng.random() < 0.5) else known
        pick.append(pool[int(rng.integers(len(pool)))])
    return pick


def draw_hues(rng: np.random.Generator, count: int, held_out: bool) -> list[float]:
    """First hues in degrees, well apart where there is room; with `held_out` as in `_shapes_and_textures`."""
    hues: list[float] = []
    for k in range(count):
        new = held_out and (k == 0 or rng.random() < 0.5)
        for _ in range(6):
            hue = draw_hue(rng, HELD_OUT_HUES if new else TRAIN_HUES)
            if all(abs((hue - other + 180) % 360 - 180) > 30 for other in hues):
                break
        hues.append(hue)
    return hues


def draw_hue(rng: np.random.Generator, ranges: tuple[tuple[float, float], ...]) -> float:
    """Uniform over the union of the ranges, which are half-open."""
    at = rng.random() * sum(high - low for low, high in ranges)
    for low, high in ranges:
        if at < high - low:
            return low + at
        at -= high - low
    raise AssertionError("random() is below 1")


def _sizes(rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half-extents (K, 3) and whether an object lies on its side (K,) (some cylinders)."""
    half, lying = [], []
    for s in shape:
        if SHAPES[s] == "sphere":
            size = [rng.uniform(0.42, 0.72)] * 3
        elif SHAPES[s] == "box":
            size = [rng.uniform(0.3, 0.6), rng.uniform(0.32, 0.75), rng.uniform(0.3, 0.6)]
        else:
            radius = rng.uniform(0.3, 0.5)
            size = [radius, rng.uniform(0.4, 0.8), radius]
        half.append(size)
        lying.append(SHAPES[s] == "cylinder" and rng.random() < 0.3)
    return np.array(half), np.array(lying)


def _layout(
    rng: np.random.Generator,
    shape: np.ndarray,
    half: np.ndarray,
    lying: np.ndarray,
    azimuth: float,
    time: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T, K, 3) and rotations (T, K, 3, 3): no overlaps and, in frame 0, not much hidden.

    An object that finds no room in the disc tries again in a larger one, so this ends.
    """
    right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
    back = np.array([math.sin(azimuth), 0.0, math.cos(azimuth)])
    paths: list[np.ndarray] = []
    rotations: list[np.ndarray] = []
    reach: list[float] = []
    for k in range(len(shape)):
        hx, hy, hz = half[k].tolist()
        foot = math.hypot(hy, hz) if lying[k] else hx if SHAPES[shape[k]] != "box" else math.hypot(hx, hz)
        radius = 0.4 + 0.17 * len(shape)
        while True:
            rest = right * rng.uniform(-radius, radius) + back * rng.uniform(-1, 1) * radius
            slide, roll_axis, slid = _slide(rng, time)
            path = rest + slide
            if all(
                abs(float((path[0] - other[0]) @ right)) > 0.42 * (foot + r)
                and float(((path - other) ** 2).sum(1).min()) > (foot + r + 0.04) ** 2
                for other, r in zip(paths, reach)
            ):
                break
            radius *= 1.06
        spin = rng.uniform(4, 11) * (1 if rng.random() < 0.5 else -1) * (rng.random() < 0.6)
        turn = about(np.array([0.0, 1.0, 0.0]), np.radians(rng.uniform(0, 360) + spin * time))
        if SHAPES[shape[k]] == "sphere":
            turn = about(roll_axis, slid / hx) @ turn[0]
        elif lying[k]:
            turn = turn @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        paths.append(path)
        rotations.append(turn)
        reach.append(foot)
    position, rotation = np.stack(paths, 1), np.stack(rotations, 1)
    position[:, :, 1] = _rest_height(half, lying) + _hops(rng, len(shape), time)
    return position, rotation


def _rest_height(half: np.ndarray, lying: np.ndarray) -> np.ndarray:
    return np.where(lying, half[:, 0], half[:, 1])


def _slide(rng: np.random.Generator, time: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Path along the ground (T, 3), the axis about which a ball rolls on it (3,), the way covered (T,)."""
    angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(16, 28)
    amplitude = rng.uniform(0.25, 0.6) * (rng.random() < 0.75) * (len(time) > 1)
    slid = amplitude * np.sin(2 * np.pi * (time / period + rng.random()))
    heading = np.array([math.sin(angle), 0.0, math.cos(angle)])
    return slid[:, None] * heading, np.array([heading[2], 0.0, -heading[0]]), slid


def _hops(rng: np.random.Generator, count: int, time: np.ndarray) -> np.ndarray:
    """Height above the ground (T, K): a quarter of the objects hop, in videos only."""
    height = rng.uniform(0.25, 0.5, count) * (rng.random(count) < 0.25) * (len(time) > 1)
    return height * np.sin(np.pi * (time[:, None] / rng.uniform(8, 14, count) + rng.random(count))) ** 2


def about(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) by angles (T,) in radians about a unit axis (3,): Rodrigues' formula."""
    x, y, z = axis.tolist()
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = angle[:, None, None]
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def direction(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) for azimuths about y from +z and elevations above the ground, radians (...)."""
    flat = np.cos(elevation)
    return np.stack([flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)], -1)


def look_from(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """(T, 3, 3), columns right, up, backwards, of a camera at these degrees, looking inwards."""
    a, e = np.radians(azimuth), np.radians(elevation)
    back = direction(a, e)
    right = np.stack([np.cos(a), np.zeros_like(a), -np.sin(a)], -1)
    return np.stack([right, np.cross(back, right), back], -1)


def stand_off(
    position: np.ndarray,
    extent: np.ndarray,
    rotation: np.ndarray,
    fill: float,
    zoom: np.ndarray,
    target: np.ndarray | None = None,
) -> np.ndarray:
    """Positions (T, 3) at which most of every object, at all times, is within `fill` at depth 1.

    `target` (3,): what the camera looks at; None is the middle of all objects.
    """
    target = position.mean((0, 1)) if target is None else target
    offset = np.einsum("tki,tij->tkj", position - target, rotation)  # right, up, backwards of every object
    distance = (np.abs(offset[..., :2]) + 0.6 * extent[:, None]) / fill + offset[..., 2:] + 0.7 * extent[:, None]
    return target + rotation[:, :, 2] * (float(distance.max()) * zoom)[:, None]


Look = tuple[int, np.ndarray, np.ndarray, float]  # texture, colours (2, 3), pattern (2, 3), gloss


def object_look(rng: np.random.Generator, texture: int, hue: float, size: float) -> Look:
    """Look of an object of half-extent `size`. Textures that blend have one hue: no third hue between."""
    first = hsv(hue, rng.uniform(0.7, 1.0), rng.uniform(0.72, 1.0))
    kind = rng.random()
    if TEXTURES[texture] in ("gradient", "waves"):
        second = hsv(hue, 0.75, 0.2) if kind < 0.5 else hsv(hue, 0.25, 1.0)
    elif kind < 0.4:
        second = hsv(hue, 0.06, 0.97)
    elif kind < 0.65:
        second = hsv(hue, 0.4, 0.12)
    else:
        second = hsv(draw_hue(rng, TRAIN_HUES), rng.uniform(0.6, 0.9), rng.uniform(0.8, 1.0))
    period = {"checker": 1.5, "stripes": 1.0, "dots": 0.9, "grid": 1.0}.get(TEXTURES[texture], 1.6)
    lean = int(rng.integers(3)) if TEXTURES[texture] == "stripes" else 1
    pattern = draw_pattern(rng, size * period * rng.uniform(0.85, 1.15), lean * np.pi / 4)
    return texture, np.stack([first, second]), pattern, rng.uniform(0.0, 0.5)


def ground_look(rng: np.random.Generator) -> Look:
    """Paler than objects, so that these stand out; sand, grass or stone."""
    texture = TEXTURES.index(GROUND_TEXTURES[int(rng.integers(len(GROUND_TEXTURES)))])
    kind, value = rng.random(), rng.uniform(0.4, 0.8)
    hue, saturation = (rng.uniform(20, 50), 0.45) if kind < 0.4 else (rng.uniform(75, 120), 0.45)
    saturation = 0.05 if kind > 0.7 else rng.uniform(0.6, 1.0) * saturation
    colours = np.stack([hsv(hue, saturation, value), hsv(hue, saturation, value * rng.uniform(0.4, 0.7))])
    return texture, colours, draw_pattern(rng, rng.uniform(1.2, 2.4), rng.uniform(0, np.pi / 2)), 0.0


def draw_pattern(rng: np.random.Generator, period: float, angle: float) -> np.ndarray:
    """(2, 3): turn by `angle`, divide by `period` metres, shift by a random phase."""
    c, s = math.cos(angle) / period, math.sin(angle) / period
    return np.array([[c, s, rng.random()], [-s, c, rng.random()]])


def draw_sky(rng: np.random.Generator) -> np.ndarray:
    """(2, 3) colours at the horizon and overhead: blue, grey or evening."""
    kind = rng.random()
    if kind < 0.5:
        hue, saturation = rng.uniform(203, 228), rng.uniform(0.4, 0.75)
    elif kind < 0.75:
        hue, saturation = 215.0, rng.uniform(0.0, 0.12)
    else:
        hue, saturation = rng.uniform(15, 45), rng.uniform(0.3, 0.6)
    value = rng.uniform(0.75, 1.0)
    return np.stack([hsv(hue, 0.35 * saturation, value), hsv(hue, saturation, 0.85 * value)])


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) display RGB of a hue in degrees."""
    return np.array(colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value))
