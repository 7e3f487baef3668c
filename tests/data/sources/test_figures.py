"""Figures: held-out outfits, joints that lie where the picture shows them, everybody whole and apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.data.sources.figures import HELD_OUT, HELD_OUT_COMBINATIONS, OUTFITS, draw_figures, sample_figures
from lvmlite.data.sources.scenes import CLASSES, TEXTURES, Scene, stream
from lvmlite.data.sources.skeleton import ACTIONS
from lvmlite.data.sources.world import World, WorldConfig
from lvmlite.sample import SPLITS, Sample


@pytest.fixture(scope="module")
def samples() -> list[tuple[Scene, Sample]]:
    """16 stills and 2 clips of 6 frames."""
    both = [
        World(WorldConfig(content="figures", train=10, val=0, test=6)),
        World(WorldConfig(content="figures", train=2, val=0, test=0, frames=6), seed=3),
    ]
    return [(w.scene(s.key), s) for w in both for p in w.parts() for s in w.samples(p)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9), st.integers(1, 24), st.sampled_from(SPLITS))
def test_scenes(seed: int, index: int, frames: int, split: str) -> None:
    scene = sample_figures(seed, split, index, frames)
    figures = draw_figures(stream(seed, split, index, 2), split)
    new = [(f.action, f.shirt) in HELD_OUT_COMBINATIONS for f in figures]
    assert new[0] == any(new) == (split == "test")
    assert scene.held_out == (set(HELD_OUT) if split == "test" else set())
    # The scene wears what the figures say.
    assert scene.joints is not None
    count = scene.joints.shape[1]
    assert count == len(figures)
    assert set(scene.instances) == set(range(1, count + 1))
    for k, figure in enumerate(figures, 1):
        assert (figure.action, figure.trousers) not in HELD_OUT_COMBINATIONS
        worn = {TEXTURES[t] for t in scene.texture[1:][scene.instances == k]}
        assert worn == {"solid", figure.shirt, figure.trousers}
    # Nobody is nearer to another than arms reach sideways, nothing is below the ground.
    hips = scene.joints[:, :, 11:13, [0, 2]].mean(2)
    if count == 2:
        assert np.linalg.norm(hips[:, 0] - hips[:, 1], axis=1).min() > 0.75
    assert scene.joints[..., 1].min() > 0
    assert scene.position[..., 1].min() > 0


def test_every_combination_occurs_where_it_may() -> None:
    seen: dict[str, set[tuple[str, str]]] = {}
    for split in ("train", "test"):
        drawn = [f for i in range(300) for f in draw_figures(stream(0, split, i, 2), split)]
        seen[split] = {(f.action, f.shirt) for f in drawn}
    everything = {(a, t) for a in ACTIONS for t in OUTFITS}
    assert seen["train"] == everything - HELD_OUT_COMBINATIONS
    assert seen["test"] == everything


def test_annotations_agree(samples: list[tuple[Scene, Sample]]) -> None:
    for scene, sample in samples:
        for frame in sample.frames:
            assert {k: v.dtype for k, v in frame.items()} == {
                "image": np.uint8, "depth": np.float32, "normals": np.float32, "classes": np.uint8,
                "instances": np.uint16, "boxes": np.float32, "pose": np.float32,
            }  # fmt: skip
            assert ((frame["instances"] > 0) == (frame["classes"] == CLASSES.index("figure"))).all()
            assert frame["boxes"][:, 5].tolist() == [i for i in np.unique(frame["instances"]) if i]
            assert (frame["boxes"][:, 4] == CLASSES.index("figure")).all()
            assert frame["pose"].shape == (len(frame["boxes"]), 17, 3)
            seen = frame["depth"] > 0
            assert np.abs(np.linalg.norm(frame["normals"], axis=2) - seen).max() < 1e-5
            # Everybody is wholly in the picture.
            assert scene.joints is not None
            assert len(frame["boxes"]) == scene.joints.shape[1]
            assert (frame["boxes"][:, :2] > 0).all()
            assert (frame["boxes"][:, 2:4] < len(seen)).all()
            assert (frame["pose"][..., 2] >= 1).all()


def test_joints_lie_where_they_are_seen(samples: list[tuple[Scene, Sample]]) -> None:
    shown = []
    for _, sample in samples:
        for frame in sample.frames:
            for (x0, y0, x1, y1, _, instance), joints in zip(frame["boxes"], frame["pose"]):
                for x, y, v in joints:
                    if v == 2:
                        assert frame["instances"][int(y), int(x)] == instance
                        assert x0 <= x < x1
                        assert y0 <= y < y1
                shown.append(joints[:, 2] == 2)
                eyes, ankles = joints[1:3, 1], joints[15:17, 1]
                assert eyes.max() < ankles.min()
    share = np.mean(shown, 0)
    assert 0.4 < share.mean() < 0.95
    assert (share > 0.2).all()


def test_faces_are_seen_from_the_front_only() -> None:
    world = World(WorldConfig(content="figures", train=200, size=64))
    noses: dict[bool, list[bool]] = {True: [], False: []}
    for key in (f"train/{index:06d}" for index in range(200)):
        scene = world.scene(key)
        assert scene.joints is not None
        nose, ears = scene.joints[0, :, 0], scene.joints[0, :, 3:5].mean(1)
        ahead, towards = nose - ears, scene.camera_position[0] - nose
        facing = float((ahead * towards).sum() / np.linalg.norm(ahead) / np.linalg.norm(towards))
        if len(nose) == 1 and abs(facing) > 0.6 and len(noses[facing > 0]) < 5:
            noses[facing > 0].append(world.sample(key).frames[0]["pose"][0, 0, 2] == 2)
    assert noses == {True: [True] * 5, False: [False] * 5}


def test_pose_is_the_projection_of_the_joints() -> None:
    """From the middle of the picture outwards, by the pinhole model written the other way round."""
    world = World(WorldConfig(content="figures", size=64))
    scene, frame = world.scene("train/000005"), world.sample("train/000005").frames[0]
    assert scene.joints is not None
    for joints, drawn in zip(scene.joints[0], frame["pose"]):
        right, up, back = ((joints - scene.camera_position[0]) @ scene.camera_rotation[0]).T
        x = 32 * (1 + right / -back / scene.tan_half_fov)
        y = 32 * (1 - up / -back / scene.tan_half_fov)
        assert np.allclose(drawn[:, :2], np.stack([x, y], 1), atol=1e-4)


def test_walkers_walk() -> None:
    for index in range(20):
        scene = sample_figures(0, "train", index, 12)
        actions = [f.action for f in draw_figures(stream(0, "train", index, 2), "train")]
        assert scene.joints is not None
        moved = np.linalg.norm(np.diff(scene.joints[:, :, 11:13].mean(2)[..., [0, 2]], axis=0), axis=2)
        for k, action in enumerate(actions):
            assert (moved[:, k].min() > 0.04) == (action == "walk")
            assert moved[:, k].max() < 0.25
