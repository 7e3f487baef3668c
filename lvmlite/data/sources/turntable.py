"""Turntables of the `world` source: one composed object seen from all around, from (seed, split, index).

In: a seed, a split, an index, the number of views. Out: a `Scene` without a ground. The object is two to four textured
spheres, boxes and cylinders joined rigidly, brought into the ball of diameter 1; the camera goes round it at even steps
of azimuth, at one elevation and one distance, as the renderings of Objaverse do from which the Large Vision Model
learned (Bai et al., 2023: 24 views, elevation U[-45, 45] degrees, distance U[1.5, 2.2]).

Every test object is a combination that train and val never have (`Scene.held_out` says which of the two):
- "contact": a pair of `HELD_OUT_COMBINATIONS`, a part of one shape joined to a part of another. Each shape has parts
  joined to it, and is joined to parts, in train.
- "texture": shape x texture pairs of `scenes.HELD_OUT_PAIRS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lvmlite.data.sources.scenes import (
    HELD_OUT_PAIRS,
    SHAPES,
    TEXTURES,
    Scene,
    direction,
    draw_held_out,
    draw_hues,
    hsv,
    look_from,
    object_look,
    stream,
)

VIEWS = 24
HELD_OUT = ("contact", "texture")
HELD_OUT_COMBINATIONS = frozenset({("sphere", "box"), ("box", "cylinder"), ("cylinder", "sphere")})  # (host, joined)
ELEVATIONS = (-45.0, 45.0)  # degrees
DISTANCES = (1.5, 2.2)  # of the camera from the middle of the object, whose ball has the radius 0.5
FIELD_OF_VIEW = 42.0  # degrees, whole angle: the ball is in the picture from every distance
_CLEARANCE = 0.03  # between parts that are not joined, where the first part has a half-extent of about 0.5
_TRIES = 40


@dataclass(frozen=True)
class _Block:
    """A part in the axes of the object: half-extents along them (3,), the axis of a cylinder, where it is (3,)."""

    shape: int
    half: np.ndarray
    axis: int
    centre: np.ndarray

    @property
    def round_along(self) -> frozenset[int]:
        """Axes along which its ends are curved."""
        return {"sphere": frozenset({0, 1, 2}), "box": frozenset(), "cylinder": frozenset({0, 1, 2}) - {self.axis}}[
            SHAPES[self.shape]
        ]


def sample_turntable(seed: int, split: str, index: int, frames: int = VIEWS) -> Scene:
    """Draw one object and `frames` >= 1 views of it. Arguments as of `scenes.sample_scene`."""
    assert frames >= 1
    rng = stream(seed, split, index, content=1)
    held_out = draw_held_out(rng, HELD_OUT) if split == "test" else frozenset()
    blocks = _compose(rng, int(rng.integers(2, 5)), "contact" in held_out)
    count = len(blocks)
    shape = np.array([b.shape for b in blocks])
    texture_of = _textures(rng, shape, "texture" in held_out)
    centre, scale = _ball(blocks)
    # Half-extents and rotations in the parts' own axes, in which that of a cylinder is y.
    half = np.stack([b.half[_own_axes(b.axis)] for b in blocks]) * scale
    rotation = np.stack([np.eye(3)[:, _own_axes(b.axis)] for b in blocks])
    position = (np.stack([b.centre for b in blocks]) - centre) * scale
    hues = draw_hues(rng, count, False)
    looks = [object_look(rng, t, h, float(e.min())) for t, h, e in zip(texture_of, hues, half)]
    nothing = (0, np.zeros((2, 3)), np.zeros((2, 3)), 0.0)
    texture, colours, pattern, gloss = zip(nothing, *looks)

    azimuth = rng.uniform(0, 360) + np.arange(frames) * (360 / frames)
    elevation = np.full(frames, rng.uniform(*ELEVATIONS))
    turned = look_from(azimuth, elevation)
    sun = direction(np.array(rng.uniform(0, 2 * np.pi)), np.array(math.radians(rng.uniform(30, 65))))
    return Scene(
        split, index, held_out, shape, np.array(texture), half, np.array(hues) % 360, np.array(colours),
        np.array(pattern), np.array(gloss), np.tile(position, (frames, 1, 1)), np.tile(rotation, (frames, 1, 1, 1)),
        rng.uniform(*DISTANCES) * turned[:, :, 2], turned, azimuth, elevation,
        math.tan(math.radians(FIELD_OF_VIEW) / 2), sun, rng.uniform(0.45, 0.65), rng.uniform(0.45, 0.58),
        _backdrop(rng), 3 + shape, np.ones(count, dtype=np.int64), ground="none",
    )  # fmt: skip


def _compose(rng: np.random.Generator, count: int, held_out: bool) -> list[_Block]:
    """Up to `count` parts, at least two, each joined to one before it; with `held_out` the second part is joined as in
    `HELD_OUT_COMBINATIONS`, and half of the others. A part that finds no room in `_TRIES` is left out.
    """
    first = int(rng.integers(len(SHAPES)))
    blocks = [_block(rng, first, rng.uniform(0.4, 0.55), 1)]
    for k in range(1, count):
        new = held_out and (k == 1 or rng.random() < 0.5)
        for _ in range(_TRIES):
            host = int(rng.integers(len(blocks))) if rng.random() < 0.5 else len(blocks) - 1
            pool = [
                s for s, name in enumerate(SHAPES)
                if ((SHAPES[blocks[host].shape], name) in HELD_OUT_COMBINATIONS) == new
            ]  # fmt: skip
            joined = _join(rng, blocks[host], pool[int(rng.integers(len(pool)))])
            if all(_apart(joined, other) for i, other in enumerate(blocks) if i != host):
                blocks.append(joined)
                break
    return blocks


def _block(rng: np.random.Generator, shape: int, size: float, axis: int) -> _Block:
    """A part of about this half-extent, in the middle. `axis`: along which a cylinder stands."""
    if SHAPES[shape] == "sphere":
        half = np.full(3, size)
    elif SHAPES[shape] == "box":
        half = size * rng.uniform(0.55, 1.15, 3)
    else:
        half = np.full(3, size * rng.uniform(0.5, 0.9))
        half[axis] = size * rng.uniform(0.6, 1.3)
    return _Block(shape, half, axis, np.zeros(3))


def _join(rng: np.random.Generator, host: _Block, shape: int) -> _Block:
    """A new part on the top or a side of another: flat ends touch, curved ends sink in a little."""
    axis, sign = (1, 1) if rng.random() < 0.55 else (int(rng.integers(3)), 1 if rng.random() < 0.5 else -1)
    across = [i for i in range(3) if i != axis]
    size = float(np.sqrt(host.half[across].prod())) * rng.uniform(0.55, 1.05)
    new = _block(rng, shape, size, axis if rng.random() < 0.7 else int(rng.integers(3)))
    sunk = sum(0.16 * float(b.half[across].min()) for b in (host, new) if axis in b.round_along) or 0.01 * size
    centre = host.centre.copy()
    centre[axis] += sign * (host.half[axis] + new.half[axis] - sunk)
    if axis not in host.round_along and rng.random() < 0.4:  # off the middle of a flat end
        centre[across] += 0.45 * rng.uniform(-1, 1, 2) * np.abs(host.half - new.half)[across]
    return _Block(shape, new.half, new.axis, centre)


def _apart(a: _Block, b: _Block) -> bool:
    return bool((np.abs(a.centre - b.centre) > a.half + b.half + _CLEARANCE).any())


def _textures(rng: np.random.Generator, shape: np.ndarray, held_out: bool) -> list[int]:
    """The texture of every part; with `held_out` the first pair, and half of the others, are held out."""
    textures = []
    for k, s in enumerate(shape):
        new = held_out and (k == 0 or rng.random() < 0.5)
        pool = [i for i, name in enumerate(TEXTURES) if ((SHAPES[s], name) in HELD_OUT_PAIRS) == new]
        textures.append(pool[int(rng.integers(len(pool)))])
    return textures


def _ball(blocks: list[_Block]) -> tuple[np.ndarray, float]:
    """The middle of the object and the factor that brings it into a ball of radius 0.5."""
    low = np.min([b.centre - b.half for b in blocks], 0)
    high = np.max([b.centre + b.half for b in blocks], 0)
    centre = (low + high) / 2
    reach = []
    for b in blocks:
        offset = np.abs(b.centre - centre)
        if SHAPES[b.shape] == "sphere":
            reach.append(math.sqrt((offset**2).sum()) + b.half[0])
        else:
            reach.append(math.sqrt(((offset + b.half) ** 2).sum()))
    return centre, 0.5 / max(reach)


def _own_axes(axis: int) -> list[int]:
    """Which axes of the object are x, y and z of a part whose y lies along `axis`: a turn, not a reflection."""
    return [(axis + 2) % 3, axis, (axis + 1) % 3]


def _backdrop(rng: np.random.Generator) -> np.ndarray:
    """(2, 3) colours at the bottom and the top: plain or a gradient, pale, grey or dark."""
    hue, saturation, value = rng.uniform(0, 360), rng.uniform(0, 0.3) * (rng.random() < 0.6), rng.uniform(0.25, 1.0)
    other = float(np.clip(value + rng.uniform(-0.4, 0.4), 0.1, 1)) if rng.random() < 0.6 else value
    return np.stack([hsv(hue, saturation, value), hsv(hue, saturation, other)])
