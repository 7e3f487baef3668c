"""Scenes: what is held out of train and val is held out, objects stand on the ground and never overlap."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.data.sources.scenes import (
    HELD_OUT_AZIMUTHS,
    HELD_OUT_ELEVATIONS,
    HELD_OUT_PAIRS,
    SHAPES,
    TEXTURES,
    TRAIN_AZIMUTHS,
    TRAIN_ELEVATIONS,
    Scene,
    is_held_out_hue,
    sample_scene,
)
from lvmlite.sample import SPLITS


def held_out_in(scene: Scene) -> set[str]:
    """What of a scene is outside of train, from its numbers alone."""
    found = set()
    if any((SHAPES[s], TEXTURES[t]) in HELD_OUT_PAIRS for s, t in zip(scene.shape, scene.texture[1:])):
        found.add("texture")
    if any(is_held_out_hue(h) for h in scene.hue):
        found.add("palette")

    def within(values: np.ndarray, bounds: tuple[float, float]) -> bool:
        return bool((values >= bounds[0]).all() and (values <= bounds[1]).all())

    if not (within(scene.azimuth, TRAIN_AZIMUTHS) and within(scene.elevation, TRAIN_ELEVATIONS)):
        assert within(scene.azimuth, HELD_OUT_AZIMUTHS) or within(scene.elevation, HELD_OUT_ELEVATIONS)
        found.add("camera")
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9), st.integers(1, 24), st.sampled_from(SPLITS))
def test_held_out_is_held_out(seed: int, index: int, frames: int, split: str) -> None:
    scene = sample_scene(seed, split, index, frames)
    assert held_out_in(scene) == scene.held_out
    assert bool(scene.held_out) == (split == "test")
    assert 1 <= len(scene.shape) <= 4
    # Nothing floats apart from hops, nothing sinks, nothing overlaps.
    half_height = (np.abs(scene.rotation[:, :, 1]) * scene.half).sum(2)
    lowest = scene.position[..., 1] - np.where(scene.shape == 0, scene.half[:, 0], half_height)
    assert (lowest > -1e-9).all()
    assert (lowest < (1e-9 if frames == 1 else 0.51)).all()
    for k in range(len(scene.shape)):
        for other in range(k):
            apart = (scene.position[:, k] - scene.position[:, other])[:, [0, 2]]
            reach = scene.half[[k, other]].min(1).sum()
            assert (np.linalg.norm(apart, axis=1) > reach).all()


def test_every_combination_occurs_where_it_may() -> None:
    pairs: dict[str, set[tuple[str, str]]] = {"train": set(), "test": set()}
    held_out: set[frozenset[str]] = set()
    for split, seen in pairs.items():
        for i in range(400):
            scene = sample_scene(0, split, i)
            seen |= {(SHAPES[s], TEXTURES[t]) for s, t in zip(scene.shape, scene.texture[1:])}
            held_out.add(scene.held_out)
    everything = {(s, t) for s in SHAPES for t in TEXTURES}
    assert pairs["test"] == everything
    assert pairs["train"] == everything - HELD_OUT_PAIRS
    assert {frozenset({name}) for name in ("texture", "palette", "camera")} <= held_out
