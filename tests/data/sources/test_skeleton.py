"""The skeleton: feet on the ground, limbs of one length, no limb inside another, motion without jerks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lvmlite.data.sources.scenes import stream
from lvmlite.data.sources.skeleton import ACTIONS, JOINTS, Angles, Body, Build, act, pose

BONES = [
    (a, b)
    for side in ("left", "right")
    for a, b in itertools.pairwise([f"{side}_{name}" for name in ("shoulder", "elbow", "wrist")])
] + [
    (a, b)
    for side in ("left", "right")
    for a, b in itertools.pairwise([f"{side}_{name}" for name in ("hip", "knee", "ankle")])
]


def drawn(action: str, index: int, frames: int = 24) -> tuple[Build, Angles, float, Body]:
    rng = stream(0, "train", index, 7)
    build = Build(rng.uniform(1.5, 1.9), rng.uniform(0.88, 1.2))
    angles, speed = act(action, rng, np.arange(frames, dtype=np.float64), build)
    return build, angles, speed, pose(angles, build, np.zeros(frames), action != "walk", sleeves=True)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("index", range(12))
def test_a_body_stands_and_stays_whole(action: str, index: int) -> None:
    build, _, _, body = drawn(action, index)
    assert set(body.joints) == set(JOINTS) == set(body.reach)
    assert np.allclose(body.lowest(), 0)
    for half, position, rotation in zip(body.half, body.position, body.rotation):
        assert np.allclose(rotation @ rotation.swapaxes(1, 2), np.eye(3))
        reach = np.abs(rotation[:, 1]) @ half  # of the box around it
        assert (position[:, 1] - reach > -1e-9).all() or max(half) == half[1]
        assert (position[:, 1] > 0).all()
    for a, b in BONES:
        length = np.linalg.norm(body.joints[a] - body.joints[b], axis=1)
        assert np.allclose(length, length[0])
        assert 0.1 < length[0] / build.height < 0.3
    for name, path in body.joints.items():
        steps = np.diff(path, axis=0)
        assert np.abs(steps).max() < 0.4, name
        assert np.abs(np.diff(steps, axis=0)).max() < 0.3, name
    # The left is to the left of a body that faces +z.
    for name in ("shoulder", "hip", "eye", "ear"):
        assert (body.joints[f"left_{name}"][:, 0] > body.joints[f"right_{name}"][:, 0]).all()
    assert (body.joints["nose"][:, 2] > body.joints["left_ear"][:, 2]).all()


def segments(body: Body) -> dict[tuple[str, str], np.ndarray]:
    """Points (T, P, 3) along the forearms and legs."""
    along = np.linspace(0, 1, 9)[:, None]
    points = {}
    for side in ("left", "right"):
        for name, a, b in (("forearm", "elbow", "wrist"), ("thigh", "hip", "knee"), ("shin", "knee", "ankle")):
            start, end = body.joints[f"{side}_{a}"][:, None], body.joints[f"{side}_{b}"][:, None]
            points[side, name] = start + along * (end - start)
    return points


@pytest.mark.parametrize("action", ACTIONS)
def test_limbs_do_not_pass_through_each_other(action: str) -> None:
    radius = {"forearm": 0.026, "thigh": 0.048, "shin": 0.036}
    for index in range(20):
        build, _, _, body = drawn(action, index)
        for (a, p), (b, q) in itertools.combinations(segments(body).items(), 2):
            if {a[1], b[1]} == {"thigh"} or (a[0] == b[0] and "forearm" not in (a[1], b[1])):
                continue  # those meet in a joint
            near = np.linalg.norm(p[:, :, None] - q[:, None], axis=-1).min()
            assert near > (radius[a[1]] + radius[b[1]]) * build.height * build.girth, (index, a, b)


def test_actions_look_like_what_they_are_called() -> None:
    for index in range(20):
        _, angles, speed, walker = drawn("walk", index)
        apart = walker.joints["left_ankle"][:, 2] - walker.joints["right_ankle"][:, 2]
        assert apart.max() > 0.4
        assert apart.min() < -0.4
        # Arms swing against the legs.
        swing = walker.joints["left_wrist"][:, 2] - walker.joints["right_wrist"][:, 2]
        assert np.corrcoef(apart, swing)[0, 1] < -0.8
        # A foot that lies flat on the ground stays where it is when the body goes ahead at its speed.
        shoes = [k for k, worn in enumerate(walker.worn) if worn == "shoes"]
        for side, k in enumerate(shoes):
            sole = walker.position[k][:, 1] - np.abs(walker.rotation[k][:, 1]) @ walker.half[k]
            flat = (sole < 1e-9) & (angles.foot[side] < 0.03)
            slips = np.diff(walker.position[k][:, 2])[flat[1:] & flat[:-1]] + speed
            assert len(slips) >= 2
            assert np.abs(slips).mean() < 0.35 * speed
        _, angles, speed, waver = drawn("wave", index)
        wrists = np.stack([waver.joints[f"{side}_wrist"][:, 1] for side in ("left", "right")])
        assert wrists.max() > waver.joints["nose"][:, 1].mean()
        assert (angles.foot == 0).all()
        assert speed == 0
        build, _, _, croucher = drawn("crouch", index, 40)
        hips = croucher.joints["left_hip"][:, 1] / (0.53 * build.height)
        assert hips.min() < 0.6
        assert np.ptp(hips) > 0.2
