"""What hits of the ray caster look like: normals, textures, light, haze.

In: `Views`, and for each ray its depth, its slot and whether the hit lies in shadow. Out: linear colours and normals.
The same few operations as in raycast.py, for the reason told there.

Legend: B views, H x W rays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lvmlite.data.sources.scenes import TEXTURES
from lvmlite.data.sources.views import FAR, GROUND_SHAPE, LEVEL_GROUND_SHAPE, LOOK_ROWS, SKY, Views, plane_axes


def surface(views: Views, size: int, depth: Tensor, slot: Tensor) -> tuple[list[Tensor], list[Tensor], _Lookup]:
    """Normals in camera axes and unit coordinates of the hits, each 3 x (B, H, W), and `LOOK` there."""
    x, y = plane_axes(views, size)
    look = _Lookup(views, slot)
    m = look("to_unit")
    unit = [m[4 * i + 3] + depth * (m[4 * i] * x + (m[4 * i + 1] * y - m[4 * i + 2])) for i in range(3)]
    normal = _unit_normals(look("shape")[0], unit)
    if views.uneven:
        normal = _squeezed(normal, look("half"))
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
        first, count = LOOK_ROWS[name]
        rows = self.table[first : first + count]
        return list(rows.gather(1, self.at.expand(count, -1)).view(count, *self.shape))


def _unit_normals(shape: Tensor, p: list[Tensor]) -> list[Tensor]:
    """Outward normals in object axes at surface points in unit coordinates."""
    ax, ay, az = (v.abs() for v in p)
    ball, box, ground = shape == 0, shape == 1, shape >= GROUND_SHAPE
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


def _squeezed(normal: list[Tensor], half: list[Tensor]) -> list[Tensor]:
    """Normals of what is not as wide as deep or, a ball, as high: those of the round shape, by the inverse extents."""
    even = (half[0] == half[2]) & ((half[0] == half[1]) | (normal[1] == 0) | (normal[1].abs() == 1))
    bent = [n / h for n, h in zip(normal, half)]
    length = (bent[0] * bent[0] + bent[1] * bent[1] + bent[2] * bent[2]).clamp(min=1e-12).sqrt()
    return [torch.where(even, n, m / length) for n, m in zip(normal, bent)]


def shade(views: Views, size: int, depth: Tensor, slot: Tensor, dark: Tensor) -> list[Tensor]:
    """Linear colours, 3 x (B, H, W): diffuse sun with cast shadows, light from the sky, a highlight, haze.

    `dark`: (B, H, W) bool, whether a hit lies in shadow.
    """
    normal, unit, look = surface(views, size, depth, slot)
    x, y = plane_axes(views, size)

    def per_view(value: Tensor) -> Tensor:
        return value[:, None, None]

    sun = [per_view(views.sun[:, i]) for i in range(3)]
    up = [per_view(views.up[:, i]) for i in range(3)]
    facing = normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2]
    lit = torch.where(dark, 0.0, facing.clamp(min=0)) * per_view(views.sun_strength)
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
    if not bool((views.ground > 0).all()):
        height = torch.where(per_view(views.ground) > 0, height, 0.5 + 0.5 * (y / per_view(views.tan_half_fov)))
    planes = []
    for i in range(3):
        first, second = colours[i], colours[3 + i]
        reflected = (first + weight * (second - first)) * light + shine
        horizon, zenith = per_view(views.sky[:, 0, i]), per_view(views.sky[:, 1, i])
        backdrop = horizon + height * (zenith - horizon)
        planes.append(torch.where(slot == SKY, backdrop, reflected + haze * (horizon - reflected)))
    return planes


def _texture(look: _Lookup, unit: list[Tensor]) -> Tensor:
    """How much of the second colour a hit has (B, H, W), in [0, 1].

    Surfaces are mapped along the axis they face most, so boxes get each pattern square on every face.
    """
    p = [u * h for u, h in zip(unit, look("half"))]
    ax, ay, az = (v.abs() for v in unit)
    flat = (ay >= ax) & (ay >= az) | (look("shape")[0] == LEVEL_GROUND_SHAPE)
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
