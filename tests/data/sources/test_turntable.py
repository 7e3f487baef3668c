"""Turntables: LVM's protocol, held-out combinations, everything joined, apart and in the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.data.sources import turntable
from lvmlite.data.sources.scenes import CLASSES, HELD_OUT_PAIRS, SHAPES, TEXTURES, Scene
from lvmlite.data.sources.turntable import DISTANCES, ELEVATIONS, HELD_OUT_COMBINATIONS, sample_turntable
from lvmlite.data.sources.world import World, WorldConfig
from lvmlite.sample import SPLITS


def boxes(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (K, 3) of the box around every part, in the axes of the object."""
    reach = (np.abs(scene.rotation[0]) * scene.half[:, None]).sum(2)
    return scene.position[0] - reach, scene.position[0] + reach


def contacts(scene: Scene) -> set[tuple[str, str]]:
    """(host, joined) shapes, from the numbers alone: a part is joined to the one part before it that it touches."""
    low, high = boxes(scene)
    found = set()
    for k in range(1, len(scene.shape)):
        touched = [i for i in range(k) if (np.minimum(high[i], high[k]) - np.maximum(low[i], low[k]) > 0).all()]
        assert len(touched) == 1
        found.add((SHAPES[scene.shape[touched[0]]], SHAPES[scene.shape[k]]))
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9), st.integers(1, 30), st.sampled_from(SPLITS))
def test_objects_hold_together_and_keep_to_the_protocol(seed: int, index: int, frames: int, split: str) -> None:
    scene = sample_turntable(seed, split, index, frames)
    assert 2 <= len(scene.shape) <= 4
    new = {"contact"} if contacts(scene) & HELD_OUT_COMBINATIONS else set()
    if {(SHAPES[s], TEXTURES[t]) for s, t in zip(scene.shape, scene.texture[1:])} & HELD_OUT_PAIRS:
        new.add("texture")
    assert new == scene.held_out
    assert bool(new) == (split == "test")
    # The object fits the ball of diameter 1, and touches it but for round ends.
    low, high = boxes(scene)
    assert np.abs(np.concatenate([low, high])).max() <= 0.5 + 1e-9
    assert (high.max(0) - low.min(0)).max() > 0.5
    assert np.allclose(high.max(0), -low.min(0))
    assert np.allclose(np.linalg.det(scene.rotation), 1)
    # The camera goes round it.
    steps = np.diff(np.append(scene.azimuth, scene.azimuth[0] + 360))
    assert np.allclose(steps, 360 / frames)
    assert np.ptp(scene.elevation) == 0
    assert ELEVATIONS[0] <= scene.elevation[0] <= ELEVATIONS[1]
    distance = np.linalg.norm(scene.camera_position, axis=1)
    assert np.allclose(distance, distance[0])
    assert DISTANCES[0] <= distance[0] <= DISTANCES[1]
    assert np.allclose(scene.camera_position, distance[0] * scene.camera_rotation[:, :, 2])


def test_every_combination_occurs_where_it_may() -> None:
    seen: dict[str, set[tuple[str, str]]] = {"train": set(), "test": set()}
    looks: dict[str, set[tuple[str, str]]] = {"train": set(), "test": set()}
    for split in seen:
        for i in range(300):
            scene = sample_turntable(0, split, i, 1)
            seen[split] |= contacts(scene)
            looks[split] |= {(SHAPES[s], TEXTURES[t]) for s, t in zip(scene.shape, scene.texture[1:])}
    everything = {(a, b) for a in SHAPES for b in SHAPES}
    assert seen["train"] == everything - HELD_OUT_COMBINATIONS
    assert seen["test"] == everything
    assert looks["train"] == {(s, t) for s in SHAPES for t in TEXTURES} - HELD_OUT_PAIRS
    assert looks["test"] >= HELD_OUT_PAIRS
    # Each part alone is known from train, as a host and as what is joined.
    for side in (0, 1):
        assert {pair[side] for pair in seen["train"]} == set(SHAPES)


def test_frames_of_a_turntable() -> None:
    world = World(WorldConfig(content="turntable", train=6, val=0, test=6, size=32))
    assert world.views
    assert world.annotations == ("depth", "normals", "classes", "instances")
    for part in world.parts():
        for sample in world.samples(part):
            scene = world.scene(sample.key)
            assert len(sample.frames) == turntable.VIEWS
            for frame in sample.frames:
                assert set(frame) == {"image", *world.annotations}
                mask = frame["instances"] == 1
                assert (mask == (frame["depth"] > 0)).all()
                assert (mask == (frame["classes"] != CLASSES.index("sky"))).all()
                assert set(np.unique(frame["classes"][mask])) <= set(scene.classes)
                assert CLASSES.index("ground") not in frame["classes"]
                assert mask.mean() > 0.03
                for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
                    assert not edge.any()
                distance = np.linalg.norm(scene.camera_position[0])
                assert np.abs(frame["depth"][mask] - distance).max() <= 0.5 + 1e-4
            # Every pair of neighbours differs, and the last view is as near the first as any.
            images = np.stack([f["image"] for f in sample.frames]).astype(float)
            change = np.abs(images - np.roll(images, 1, 0)).mean((1, 2, 3))
            assert (change > 0).all()
            assert change[0] <= 2 * np.median(change)


def test_backdrop_is_plain_or_a_gradient_from_bottom_to_top() -> None:
    kinds = set()
    for i in range(12):
        world = World(WorldConfig(content="turntable", frames=1, size=16))
        frame = world.sample(f"train/{i:06d}").frames[0]
        rows = frame["image"][:, [0, -1]].astype(int)
        assert (rows[:, 0] == rows[:, 1]).all()
        steps = np.diff(rows[:, 0].sum(1))
        assert (steps >= 0).all() or (steps <= 0).all()
        kinds.add(bool(steps.any()))
    assert kinds == {True, False}


@pytest.mark.parametrize("frames", [1, 8])
def test_views_by_config(frames: int) -> None:
    world = World(WorldConfig(content="turntable", frames=frames, size=8))
    assert len(world.sample("val/000003").frames) == frames
