"""Ray caster of the `world` source: a batch of scenes becomes pictures with exact annotations, on CPU or GPU.

In: `Scene`s. Out: tensors, one row per view (a frame of a scene): image, depth, normals, slot (what is seen).

Every object is a unit sphere, cube or cylinder in its own coordinates, so a ray is mapped by one affine map
per object and distances along it stay the same; a ray's direction has camera z = -1, so that distance is the
planar depth. Objects are intersected in groups of one shape across the batch; the nearest hit is kept; what
it looks like is gathered per pixel afterwards.

Only + - * / sqrt floor abs min max and comparisons are used, in a fixed order per pixel: IEEE 754 rounds them
the same whatever the vector width, so a view comes out bit-identical in any batch. Sines, powers, matrix
products and reductions promise no such thing and stand in scenes.py, which works on one scene at a time in
float64. On a GPU the last bit may differ from the CPU's.

Legend: B views, S slots (0 the ground, 1.. the objects, padded), N pairs of one shape, H x W rays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lvmlite.data.sources.scenes import SHAPES, TEXTURES, Scene

FAR = 25.0  # metres of planar depth at which the ground ends in haze
SKY = -1  # slot of a ray that meets nothing


@dataclass(frozen=True)
class Views:
    """What the renderer needs to know of B views, float32 tensors on one device.

    Attributes:
        pairs: for each shape (views, slots), two (N,) int64 tensors: where objects of this shape are.
        to_unit: (B, S, 3, 4) a camera point (x, y, z, 1) into a slot's unit coordinates.
        sun_unit: (B, S, 3) direction of the sun in unit coordinates (not unit length).
        look: (F, B * S) what the nearest hit looks up, one row per number; `_LOOK` names the rows.
        tan_half_fov, sun_strength, ambient: (B,). sun, up: (B, 3) in camera axes.
        sky: (B, 2, 3) linear colours.
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


_LOOK = ("to_unit", "to_camera", "half", "pattern", "colours", "shape", "texture", "gloss")
_LOOK_SIZES = (12, 9, 3, 6, 6, 1, 1, 1)
_LOOK_ROWS = {n: (sum(_LOOK_SIZES[:i]), k) for i, (n, k) in enumerate(zip(_LOOK, _LOOK_SIZES, strict=True))}
_GROUND_SHAPE = len(SHAPES)


@torch.no_grad()
def render(views: Views, size: int, supersample: int = 2) -> dict[str, Tensor]:
    """Render B views of size x size pixels.

    The picture averages supersample ** 2 rays a pixel; annotations are what the ray through its centre meets.

    Returns:
        image (B, size, size, 3) uint8; depth (B, size, size) float32 metres, 0 = sky; normals (B, size, size,
        3) float32 in camera axes (x right, y up, z towards the camera), 0 = sky; slot (B, size, size) int64.
    """
    depth, slot = _trace(views, size)
    normals = _surface(views, size, depth, slot)[0]
    fine = size * supersample
    fine_depth, fine_slot = (depth, slot) if supersample == 1 else _trace(views, fine)
    planes = []
    for plane in _shade(views, fine, fine_depth, fine_slot):
        total = torch.zeros_like(depth)
        for i in range(supersample):
            for j in range(supersample):
                total = total + plane[:, i::supersample, j::supersample]
        planes.append((total / supersample**2).clamp(0, 1).sqrt() * 255 + 0.5)
    return {
        "image": torch.stack(planes, -1).to(torch.uint8),
        "depth": depth,
        "normals": torch.stack(normals, -1),
        "slot": slot,
    }


def pack(scenes: Sequence[Scene], device: str | torch.device = "cpu") -> Views:
    """All frames of the scenes, in order, as one batch. Numbers of a scene do not depend on the others."""
    slots = 1 + max(len(s.shape) for s in scenes)
    rows = [_pack_scene(s, slots) for s in scenes]
    shape = np.concatenate([r.pop("shape_of_slot") for r in rows])
    joined = {k: torch.from_numpy(np.concatenate([r[k] for r in rows]).astype(np.float32)).to(device) for k in rows[0]}
    pairs = [np.nonzero(shape == s) for s in range(len(SHAPES))]
    look = [joined[k] if k in joined else joined.pop(f"look_{k}") for k in _LOOK]
    return Views(
        pairs=tuple((torch.from_numpy(b).to(device), torch.from_numpy(k).to(device)) for b, k in pairs),
        look=torch.cat([rows.reshape(shape.size, -1).T for rows in look]),
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

    shape_of_slot = np.full((frames, slots), -1)
    shape_of_slot[:, used] = [_GROUND_SHAPE, *scene.shape]
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
    }


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of (..., 3, 3) matrices by plain arithmetic: the bits depend on no linear algebra library."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def _plane_axes(views: Views, size: int) -> tuple[Tensor, Tensor]:
    """Where rays cross the plane at depth 1: x (B, 1, W) to the right and y (B, H, 1) upwards."""
    steps = (torch.arange(size, device=views.sun.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    tan = views.tan_half_fov[:, None, None]
    return steps[None, None, :] * tan, -steps[None, :, None] * tan


def _unit_rays(views: Views, size: int, at: tuple[Tensor, Tensor] | None = None) -> tuple[list[Tensor], list[Tensor]]:
    """Origins (N, 1, 1) and directions (N, H, W) of rays in unit coordinates of slots `at`, or world ones."""
    matrix = views.to_unit[:, 0] if at is None else views.to_unit[at]
    x, y = _plane_axes(views, size)
    if at is not None:
        x, y = x[at[0]], y[at[0]]
    matrix = matrix[:, :, :, None, None]
    origin = [matrix[:, i, 3] for i in range(3)]
    return origin, [matrix[:, i, 0] * x + (matrix[:, i, 1] * y - matrix[:, i, 2]) for i in range(3)]


def _trace(views: Views, size: int) -> tuple[Tensor, Tensor]:
    """Nearest hits of size x size rays: depth (B, H, W), 0 for the sky, and slot (B, H, W) int64."""
    origin, direction = _unit_rays(views, size)
    depth = -origin[1] / direction[1]
    depth = torch.where((direction[1] < 0) & (depth < FAR), depth, torch.inf)
    slot = (depth < FAR).long() - 1  # 0 or SKY
    entry = views.to_unit.new_full((views.to_unit.shape[1], *depth.shape), torch.inf)
    for (b, k), interval in zip(views.pairs, _INTERVALS, strict=True):
        if len(b):
            near, far = interval(*_unit_rays(views, size, (b, k)))
            entry[k, b] = torch.where((near < far) & (near > 0), near, torch.inf)
    for i in range(1, len(entry)):
        closer = entry[i] < depth
        depth = torch.where(closer, entry[i], depth)
        slot = torch.where(closer, i, slot)
    return torch.where(slot == SKY, 0.0, depth), slot


def _in_shadow(views: Views, size: int, depth: Tensor, slot: Tensor) -> Tensor:
    """Whether something stands between a hit and the sun (B, H, W). Shapes are convex: none shades itself."""
    dark = torch.zeros_like(depth, dtype=torch.int32)
    for (b, k), interval in zip(views.pairs, _INTERVALS, strict=True):
        if not len(b):
            continue
        origin, direction = _unit_rays(views, size, (b, k))
        along = depth[b]
        hits = [o + along * d for o, d in zip(origin, direction)]
        sun = views.sun_unit[b, k][:, :, None, None]
        near, far = interval(hits, [sun[:, i] for i in range(3)])
        dark.index_add_(0, b, ((near < far) & (far > 0) & (slot[b] != k[:, None, None])).int())
    return dark > 0


def _sphere_interval(o: list[Tensor], d: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Where lines o + t d enter and leave the unit sphere; they leave before they enter if they miss it."""
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    # The squared distance of line and centre, without the cancellation of b * b - a * c.
    t = -b / a
    e = [x + t * y for x, y in zip(o, d)]
    root = _signed_root((1 - (e[0] * e[0] + e[1] * e[1] + e[2] * e[2])) / a)
    return t - root, t + root


def _box_interval(o: list[Tensor], d: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The same for the cube [-1, 1]^3: slab method (Kay and Kajiya, 1986)."""
    slabs = [_slab_interval(x, y) for x, y in zip(o, d)]
    near = torch.maximum(torch.maximum(slabs[0][0], slabs[1][0]), slabs[2][0])
    return near, torch.minimum(torch.minimum(slabs[0][1], slabs[1][1]), slabs[2][1])


def _cylinder_interval(o: list[Tensor], d: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The same for the cylinder x^2 + z^2 <= 1, |y| <= 1 with its caps."""
    a = (d[0] * d[0] + d[2] * d[2]).clamp(min=1e-12)
    t = -(o[0] * d[0] + o[2] * d[2]) / a
    x, z = o[0] + t * d[0], o[2] + t * d[2]
    root = _signed_root((1 - (x * x + z * z)) / a)
    low, high = _slab_interval(o[1], d[1])
    return torch.maximum(low, t - root), torch.minimum(high, t + root)


def _slab_interval(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """The same for |o + t d| <= 1 on one axis. A line along the slab gets a slope too small to matter."""
    inverse = 1 / torch.where(d.abs() < 1e-12, 1e-12, d)
    middle, radius = -o * inverse, inverse.abs()
    return middle - radius, middle + radius


def _signed_root(x: Tensor) -> Tensor:
    """Root of the size, with the sign kept. (Roots of negative numbers are 50 times as slow on a CPU.)"""
    return x.abs().sqrt() * x.sign()


_INTERVALS = (_sphere_interval, _box_interval, _cylinder_interval)


def _surface(views: Views, size: int, depth: Tensor, slot: Tensor) -> tuple[list[Tensor], list[Tensor], _Lookup]:
    """Normals in camera axes and unit coordinates of the hits, each 3 x (B, H, W), and `_LOOK` there."""
    x, y = _plane_axes(views, size)
    look = _Lookup(views, slot)
    m = look("to_unit")
    unit = [m[4 * i + 3] + depth * (m[4 * i] * x + (m[4 * i + 1] * y - m[4 * i + 2])) for i in range(3)]
    normal = _unit_normals(look("shape")[0], unit)
    c = look("to_camera")
    seen = (slot != SKY).float()
    turned = [(c[3 * i] * normal[0] + c[3 * i + 1] * normal[1] + c[3 * i + 2] * normal[2]) * seen for i in range(3)]
    return turned, unit, look


class _Lookup:
    """Numbers of the slot each ray meets: `look(name)` is a list of (B, H, W), for the sky the ground's."""

    def __init__(self, views: Views, slot: Tensor) -> None:
        batch, slots = views.to_unit.shape[:2]
        start = torch.arange(batch, device=slot.device)[:, None, None] * slots
        self.at, self.table = (slot.clamp(min=0) + start).flatten(), views.look
        self.shape = slot.shape

    def __call__(self, name: str) -> list[Tensor]:
        first, count = _LOOK_ROWS[name]
        rows = self.table[first : first + count]
        return list(rows.gather(1, self.at.expand(count, -1)).view(count, *self.shape))


def _unit_normals(shape: Tensor, p: list[Tensor]) -> list[Tensor]:
    """Outward normals in object axes at surface points in unit coordinates."""
    ax, ay, az = (v.abs() for v in p)
    ball, box, ground = shape == 0, shape == 1, shape == _GROUND_SHAPE
    around = p[0] * p[0] + p[2] * p[2]
    on_y = torch.where(box, (ay >= ax) & (ay >= az), ay * ay >= around) & ~ball
    on_x = box & ~on_y & (ax >= az)
    on_z = box & ~on_y & ~on_x
    length = torch.where(ball, around + p[1] * p[1], around).clamp(min=1e-12).sqrt()
    flat = on_y | ground
    y = torch.where(flat, torch.where((p[1] < 0) & ~ground, -1.0, 1.0), torch.where(ball, p[1] / length, 0.0))
    x = torch.where(on_x, p[0].sign(), torch.where(flat | on_z, 0.0, p[0] / length))
    z = torch.where(on_z, p[2].sign(), torch.where(flat | on_x, 0.0, p[2] / length))
    return [x, y, z]


def _shade(views: Views, size: int, depth: Tensor, slot: Tensor) -> list[Tensor]:
    """Linear colours, 3 x (B, H, W): diffuse sun with cast shadows, light from the sky, a highlight, haze."""
    normal, unit, look = _surface(views, size, depth, slot)
    x, y = _plane_axes(views, size)

    def per_view(value: Tensor) -> Tensor:
        return value[:, None, None]

    sun = [per_view(views.sun[:, i]) for i in range(3)]
    up = [per_view(views.up[:, i]) for i in range(3)]
    facing = normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2]
    lit = torch.where(_in_shadow(views, size, depth, slot), 0.0, facing.clamp(min=0)) * per_view(views.sun_strength)
    upward = normal[0] * up[0] + normal[1] * up[1] + normal[2] * up[2]
    light = lit + (0.75 + 0.25 * upward) * per_view(views.ambient)

    ray_length = (x * x + y * y + 1).sqrt()
    halfway = [sun[0] - x / ray_length, sun[1] - y / ray_length, sun[2] + 1 / ray_length]
    squared = halfway[0] * halfway[0] + halfway[1] * halfway[1] + halfway[2] * halfway[2]
    shine = normal[0] * halfway[0] + normal[1] * halfway[1] + normal[2] * halfway[2]
    shine = shine.clamp(min=0) / squared.sqrt()
    for _ in range(5):
        shine = shine * shine  # to the 32nd power
    shine = torch.where(lit > 0, shine, 0.0) * look("gloss")[0]

    weight, colours = _texture(look, unit), look("colours")
    haze = ((depth - 0.4 * FAR) / (0.6 * FAR)).clamp(0, 1)
    height = (2 * (x * up[0] + y * up[1] - up[2]) / ray_length).clamp(0, 1)
    planes = []
    for i in range(3):
        first, second = colours[i], colours[3 + i]
        surface = (first + weight * (second - first)) * light + shine
        horizon, zenith = per_view(views.sky[:, 0, i]), per_view(views.sky[:, 1, i])
        backdrop = horizon + height * (zenith - horizon)
        planes.append(torch.where(slot == SKY, backdrop, surface + haze * (horizon - surface)))
    return planes


def _texture(look: _Lookup, unit: list[Tensor]) -> Tensor:
    """How much of the second colour a hit has (B, H, W), in [0, 1].

    Surfaces are mapped along the axis they face most, so boxes get each pattern square on every face.
    """
    p = [u * h for u, h in zip(unit, look("half"))]
    ax, ay, az = (v.abs() for v in unit)
    flat = (ay >= ax) & (ay >= az)
    side = ~flat & (ax >= az)
    u = torch.where(side, p[2], p[0])
    v = torch.where(flat, p[2], p[1])
    m, kind = look("pattern"), look("texture")[0]
    a, b = m[0] * u + m[1] * v + m[2], m[3] * u + m[4] * v + m[5]
    a, b = a - a.floor(), b - b.floor()
    ca, cb = (a - 0.5).abs(), (b - 0.5).abs()
    wave = 2 * ca + 1.4 * cb + 0.5 * b * (1 - b)
    weights = {
        "checker": ((a < 0.5) != (b < 0.5)).float(),
        "stripes": (b < 0.5).float(),
        "dots": (ca * ca + cb * cb < 0.1).float(),
        "grid": ((a < 0.22) | (b < 0.22)).float(),
        "gradient": (0.5 - 0.5 * unit[1]).clamp(0, 1),
        "waves": 2 * (wave - wave.floor() - 0.5).abs(),
    }
    weight = torch.zeros_like(a)
    for name, value in weights.items():
        weight = torch.where(kind == TEXTURES.index(name), value, weight)
    return weight
