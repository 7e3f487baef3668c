"""The figures of the `world` source: a body, what it does, and where that puts its limbs and joints.

In: a body's height, an action and time. Out: a `Body` in world axes: solid parts to draw, and COCO's 17 joints.

Lengths of limbs are shares of the height after Drillis and Contini (1966), as Winter (2009) gives them. Axes of a
standing body: x to its own left, y up, z ahead. Limbs hang along -y; a limb flexes about x, spreads about z. The
lowest point of the feet rests on the ground, y = 0, at all times.

Legend: T frames, sides are (left, right), angles in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lvmlite.data.sources.scenes import about

ACTIONS = ("walk", "wave", "crouch")
JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip

_PERIODS = {"walk": (13.0, 18.0), "wave": (8.0, 12.0), "crouch": (22.0, 34.0)}  # frames
_X, _Y, _Z = np.eye(3)
_SIDES = (("left", 1.0), ("right", -1.0))


@dataclass(frozen=True)
class Build:
    """Height in metres, and how wide: 1 is the average."""

    height: float
    girth: float


@dataclass
class Angles:
    """What an action does to a standing body over T frames. (T,), or (2, T) of left and right."""

    hip: np.ndarray  # thighs ahead
    knee: np.ndarray  # shins back
    foot: np.ndarray  # toes down
    shoulder: np.ndarray  # arms ahead
    elbow: np.ndarray  # forearms ahead
    spread: np.ndarray  # legs apart
    lift: np.ndarray  # arms apart: pi / 2 is level, pi up
    swing: np.ndarray  # forearms further that way
    lean: np.ndarray  # trunk ahead
    sway: np.ndarray  # trunk to the right
    twist: np.ndarray  # trunk to the left, about the vertical
    gaze: np.ndarray  # head to the left


@dataclass
class Body:
    """A figure over T frames: parts in the order they were added, and joints by name (T, 3)."""

    shape: list[str] = field(default_factory=list)
    worn: list[str] = field(default_factory=list)  # "skin", "hair", "shirt", "trousers", "shoes", "eyes"
    half: list[np.ndarray] = field(default_factory=list)
    position: list[np.ndarray] = field(default_factory=list)
    rotation: list[np.ndarray] = field(default_factory=list)
    joints: dict[str, np.ndarray] = field(default_factory=dict)
    reach: dict[str, float] = field(default_factory=dict)

    def add(
        self,
        worn: str,
        shape: str,
        half: tuple[float, float, float],
        joint: np.ndarray,
        rotation: np.ndarray,
        at: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        """A part whose middle is `at`, in its own axes, from a joint (T, 3)."""
        self.worn.append(worn)
        self.shape.append(shape)
        self.half.append(np.array(half))
        self.position.append(joint + rotation @ np.array(at))
        self.rotation.append(rotation)

    def limb(self, worn: str, start: np.ndarray, end: np.ndarray, radius: float, rotation: np.ndarray) -> None:
        """A cylinder from one joint to the next; `rotation` has it along its y."""
        half = float(np.sqrt(((end - start)[0] ** 2).sum())) / 2
        self.add(worn, "cylinder", (radius, half, radius), (start + end) / 2, rotation)

    def mark(self, name: str, at: np.ndarray, reach: float) -> None:
        """A joint (T, 3), and how many metres of the body may cover it (see `Scene.reach`)."""
        self.joints[name], self.reach[name] = at, reach

    def lowest(self) -> np.ndarray:
        """(T,) height of the lowest point of the shoes, which are boxes."""
        shoes = [k for k, worn in enumerate(self.worn) if worn == "shoes"]
        return np.min([self.position[k][:, 1] - np.abs(self.rotation[k][:, 1]) @ self.half[k] for k in shoes], 0)

    def move(self, by: np.ndarray) -> None:
        """All of it, by (T, 3)."""
        self.position = [p + by for p in self.position]
        self.joints = {name: p + by for name, p in self.joints.items()}


def act(action: str, rng: np.random.Generator, time: np.ndarray, build: Build) -> tuple[Angles, float]:
    """The angles of an action, and how many metres a frame the body walks. Draws its phase, tempo and manner."""
    two, zero = np.zeros((2, len(time))), np.zeros(len(time))
    rate = 2 * np.pi / rng.uniform(*_PERIODS[action])
    phase = rate * time + rng.uniform(0, 2 * np.pi)
    breath = np.sin(2 * np.pi * (time / rng.uniform(18, 26) + rng.random()))
    gaze = rng.uniform(-0.35, 0.35) + 0.12 * np.sin(2 * np.pi * (time / rng.uniform(24, 36) + rng.random()))
    a = Angles(
        hip=two + 0.02,
        knee=two + 0.06,
        foot=two,
        shoulder=two + 0.05 + 0.03 * breath,
        elbow=two + rng.uniform(0.15, 0.3),
        spread=two + rng.uniform(0.04, 0.1),
        lift=two + rng.uniform(0.14, 0.22),
        swing=two.copy(),
        lean=zero + 0.02 * breath,
        sway=zero,
        twist=zero,
        gaze=gaze,
    )
    speed = 0.0
    if action == "walk":
        stride, pump = rng.uniform(0.33, 0.44), rng.uniform(0.8, 1.2)
        legs = np.stack([phase, phase + np.pi])
        # Nearly a triangle wave: a foot on the ground goes back as fast as the body goes ahead.
        a.hip = 0.06 + stride * 0.9 * (np.sin(legs) - np.sin(3 * legs) / 9)
        a.knee = 0.1 + 0.95 * (0.5 + 0.5 * np.cos(legs + 0.15)) ** 3
        behind = a.knee - a.hip - 0.12
        a.foot = 0.35 * (behind + np.sqrt(behind**2 + 0.01))
        a.shoulder = 0.05 - pump * stride * np.sin(legs)
        a.elbow = 0.3 * pump - 0.2 * pump * np.sin(legs)
        a.lean, a.twist, a.spread = zero + 0.06, -0.1 * np.sin(phase), two + 0.01
        speed = 2 * 0.49 * build.height * math.sin(stride) * rate / np.pi  # two steps of a leg's length a period
    elif action == "wave":
        side = int(rng.integers(2))
        arms = [side] if rng.random() < 0.75 else [0, 1]
        lift = rng.uniform(1.5, 2.1)
        for arm in arms:
            a.lift[arm] = lift + 0.08 * np.sin(phase)
            a.swing[arm] = rng.uniform(0.9, 1.2) + 0.5 * np.sin(phase) - (lift - 1.5)
            a.elbow[arm], a.shoulder[arm] = 0.1, 0.15
        a.sway = 0.04 * np.sin(phase) + 0.03 * breath
    else:
        deep = rng.uniform(0.72, 0.8) + 0.24 * np.sin(phase)  # 0.48 .. 1.04 of a full squat
        a.hip, a.knee = two + 1.5 * deep, two + 2.28 * deep
        a.spread = two + rng.uniform(0.12, 0.25)
        a.lean = 0.5 * deep
        a.shoulder, a.elbow = two + rng.uniform(0.9, 1.5) * deep, two + rng.uniform(0.2, 0.9)
    return a, speed


def pose(a: Angles, build: Build, heading: np.ndarray, in_place: bool, sleeves: bool) -> Body:
    """The body at these angles, facing `heading` (T,) about y, on the ground, its hips (or, `in_place`, the middle of
    its ankles) above the origin. `sleeves`: long ones.
    """
    h, g = build.height, build.height * build.girth
    body = Body()
    root = about(_Y, heading)
    trunk = root @ about(_Y, a.twist) @ about(_X, a.lean) @ about(_Z, a.sway)
    pelvis = root @ about(_Y, 0.5 * a.twist) @ about(_X, 0.6 * a.lean)
    hips = np.zeros((len(heading), 3))
    top = hips + trunk @ np.array([0, 0.288 * h, 0])
    body.add("trousers", "sphere", (0.098 * g, 0.075 * h, 0.074 * g), hips, pelvis, (0, 0.015 * h, 0))
    body.add("shirt", "cylinder", (0.092 * g, 0.12 * h, 0.064 * g), hips, trunk, (0, 0.16 * h, 0))
    body.add("shirt", "sphere", (0.122 * g, 0.04 * h, 0.064 * g), top, trunk, (0, -0.012 * h, 0))
    _head(body, a, h, top, root, trunk)
    for i, (side, sign) in enumerate(_SIDES):
        _leg(body, a, build, (i, side, sign), root, pelvis)
        _arm(body, a, build, (i, side, sign), top, trunk, sleeves)
    ankles = (body.joints["left_ankle"] + body.joints["right_ankle"]) / 2
    flat = -ankles if in_place else np.zeros_like(ankles)
    body.move(np.stack([flat[:, 0], -body.lowest(), flat[:, 2]], -1))
    return body


def _head(body: Body, a: Angles, h: float, top: np.ndarray, root: np.ndarray, trunk: np.ndarray) -> None:
    """Head, hair, eyes, nose, ears and neck. The head stays more upright than the trunk."""
    head = root @ about(_Y, 0.5 * a.twist + a.gaze) @ about(_X, 0.35 * a.lean)
    width, height, depth = 0.054 * h, 0.068 * h, 0.061 * h
    centre = top + trunk @ np.array([0, 0.025 * h, 0]) + head @ np.array([0, 0.08 * h, 0.012 * h])
    body.add("skin", "cylinder", (0.027 * h, 0.0375 * h, 0.027 * h), top, trunk, (0, 0.0175 * h, 0))
    body.add("skin", "sphere", (width, height, depth), centre, head)
    body.add("hair", "sphere", (1.06 * width, 1.06 * height, 1.06 * depth), centre, head, (0, 0.014 * h, -0.016 * h))
    body.add("skin", "sphere", (0.009 * h, 0.012 * h, 0.009 * h), centre, head, (0, -0.12 * height, 1.02 * depth))
    body.mark("nose", centre + head @ np.array([0, -0.12 * height, 1.12 * depth]), 0.025 * h)
    for side, sign in _SIDES:
        eye, ear = (sign * 0.36 * width, 0.14 * height, 0.9 * depth), (sign * width, -0.02 * height, -0.05 * depth)
        body.add("eyes", "sphere", (0.0085 * h, 0.0085 * h, 0.0085 * h), centre, head, eye)
        body.add("skin", "sphere", (0.008 * h, 0.016 * h, 0.01 * h), centre, head, ear)
        body.mark(f"{side}_eye", centre + head @ np.array(eye), 0.025 * h)
        body.mark(f"{side}_ear", centre + head @ np.array(ear), 0.025 * h)


_Side = tuple[int, str, float]  # row of the angles, name, which way x goes


def _leg(body: Body, a: Angles, build: Build, of: _Side, root: np.ndarray, pelvis: np.ndarray) -> None:
    (i, side, sign), h, g = of, build.height, build.height * build.girth
    thigh = root @ about(_Z, sign * a.spread[i]) @ about(_X, -a.hip[i])
    shin = thigh @ about(_X, a.knee[i])
    foot = root @ about(_Y, sign * a.spread[i]) @ about(_X, a.foot[i])
    hip = pelvis @ np.array([sign * 0.054 * g, 0, 0])
    knee = hip - 0.245 * h * thigh[:, :, 1]
    ankle = knee - 0.246 * h * shin[:, :, 1]
    body.limb("trousers", hip, knee, 0.048 * g, thigh)
    body.add("trousers", "sphere", (0.049 * g, 0.049 * g, 0.049 * g), knee, thigh)
    body.limb("trousers", knee, ankle, 0.036 * g, shin)
    body.add("shoes", "box", (0.034 * g, 0.021 * h, 0.075 * h), ankle, foot, (0, -0.018 * h, 0.036 * h))
    body.mark(f"{side}_hip", hip, 0.09 * g)
    body.mark(f"{side}_knee", knee, 0.06 * g)
    body.mark(f"{side}_ankle", ankle, 0.05 * g)


def _arm(body: Body, a: Angles, build: Build, of: _Side, top: np.ndarray, trunk: np.ndarray, sleeves: bool) -> None:
    (i, side, sign), h, g = of, build.height, build.height * build.girth
    upper = trunk @ about(_Z, sign * a.lift[i]) @ about(_X, -a.shoulder[i])
    lower = upper @ about(_Z, sign * a.swing[i]) @ about(_X, -a.elbow[i])
    shoulder = top + trunk @ np.array([sign * 0.118 * g, -0.016 * h, 0])
    elbow = shoulder - 0.18 * h * upper[:, :, 1]
    wrist = elbow - 0.15 * h * lower[:, :, 1]
    worn = "shirt" if sleeves else "skin"
    body.add("shirt", "sphere", (0.036 * g, 0.036 * g, 0.036 * g), shoulder, upper)
    body.limb("shirt", shoulder, elbow, 0.032 * g, upper)
    body.add(worn, "sphere", (0.0325 * g, 0.0325 * g, 0.0325 * g), elbow, upper)
    body.limb(worn, elbow, wrist, 0.026 * g, lower)
    body.add("skin", "sphere", (0.022 * h, 0.042 * h, 0.028 * h), wrist, lower, (0, -0.03 * h, 0))
    body.mark(f"{side}_shoulder", shoulder, 0.07 * g)
    body.mark(f"{side}_elbow", elbow, 0.05 * g)
    body.mark(f"{side}_wrist", wrist, 0.045 * g)
