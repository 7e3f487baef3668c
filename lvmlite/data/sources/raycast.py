"""Ray caster of the `world` source: a batch of scenes becomes pictures with exact annotations, on CPU or GPU.

In: `Scene`s. Out: tensors, one row per view (a frame of a scene): image, depth, normals, slot (what is seen).

Every object is a unit sphere, cube or cylinder in its own coordinates, so a ray is mapped by one affine map
per object and distances along it stay the same; a ray's direction has camera z = -1, so that distance is the
planar depth. Objects are intersected in groups of one shape across the batch, each only in the tiles of the
picture that it may reach (or whose hits it may shade), so that many small parts cost little; the nearest hit is
kept; what it looks like (shading.py) is gathered per pixel afterwards.

Only + - * / sqrt floor abs min max and comparisons are used, in a fixed order per pixel: IEEE 754 rounds them
the same whatever the vector width, so a view comes out bit-identical in any batch. Sines, powers, matrix
products and reductions promise no such thing and stand in scenes.py, which works on one scene at a time in
float64. On a GPU the last bit may differ from the CPU's.

Legend: B views, S slots (0 the ground, 1.. the objects, padded), N pairs of one shape, H x W rays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmlite.data.sources.shading import shade, surface
from lvmlite.data.sources.views import FAR, SKY, Views, plane_axes, steps

TILE = 16  # pixels


@torch.no_grad()
def render(views: Views, size: int, supersample: int = 2) -> dict[str, Tensor]:
    """Render B views of size x size pixels.

    The picture averages supersample ** 2 rays a pixel; annotations are what the ray through its centre meets.

    Returns:
        image (B, size, size, 3) uint8; depth (B, size, size) float32 metres, 0 = sky; normals (B, size, size,
        3) float32 in camera axes (x right, y up, z towards the camera), 0 = sky; slot (B, size, size) int64.
    """
    depth, slot = _trace(views, size)
    normals = surface(views, size, depth, slot)[0]
    fine = size * supersample
    fine_depth, fine_slot = (depth, slot) if supersample == 1 else _trace(views, fine)
    dark = _in_shadow(views, fine, fine_depth, fine_slot)
    planes = []
    for plane in shade(views, fine, fine_depth, fine_slot, dark):
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


def _world_rays(views: Views, size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Origins (B, 1, 1) and directions (B, H, W) of rays in world axes."""
    return _mapped(views.to_unit[:, 0], *plane_axes(views, size))


def _mapped(matrix: Tensor, x: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Origins (N, 1, 1) and directions (N, H, W) of rays by way of (N, 3, 4) from x (N, 1, W) and y (N, H, 1)."""
    matrix = matrix[:, :, :, None, None]
    origin = [matrix[:, i, 3] for i in range(3)]
    return origin, [matrix[:, i, 0] * x + (matrix[:, i, 1] * y - matrix[:, i, 2]) for i in range(3)]


@dataclass(frozen=True)
class _Tiles:
    """Pairs of a view and a slot of one shape (N,), each with one tile of the picture it may have to do with."""

    view: Tensor
    slot: Tensor
    row: Tensor
    column: Tensor
    count: int  # tiles a row of the picture

    @property
    def at(self) -> Tensor:
        """(N,) numbers of the tiles, as `_cut` orders them."""
        return (self.view * self.count + self.row) * self.count + self.column

    def rays(self, views: Views, size: int) -> tuple[list[Tensor], list[Tensor]]:
        """Origins (N, 1, 1) and directions (N, TILE, TILE) in unit coordinates of the slots."""
        along = steps(size, self.count * TILE, views.sun.device).view(self.count, TILE)
        tan = views.tan_half_fov[self.view][:, None, None]
        x, y = along[self.column][:, None, :] * tan, -along[self.row][:, :, None] * tan
        return _mapped(views.to_unit[self.view, self.slot], x, y)


def _cut(planes: Tensor, count: int) -> Tensor:
    """(B, H, W) as tiles (B * count * count, TILE, TILE); what sticks out of the picture is 0."""
    batch, size = planes.shape[0], count * TILE
    whole = planes.new_zeros((batch, size, size))
    whole[:, : planes.shape[1], : planes.shape[2]] = planes
    return whole.view(batch, count, TILE, count, TILE).transpose(2, 3).reshape(-1, TILE, TILE)


def _joined(tiles: Tensor, count: int, size: int) -> Tensor:
    """The inverse of `_cut`."""
    whole = tiles.view(-1, count, count, TILE, TILE).transpose(2, 3).reshape(-1, count * TILE, count * TILE)
    return whole[:, :size, :size].contiguous()


def _trace(views: Views, size: int) -> tuple[Tensor, Tensor]:
    """Nearest hits of size x size rays: depth (B, H, W), 0 for the sky, and slot (B, H, W) int64."""
    origin, direction = _world_rays(views, size)
    depth = -origin[1] / direction[1]
    on_ground = (direction[1] < 0) & (depth < FAR) & (views.ground[:, None, None] > 0)
    depth = torch.where(on_ground, depth, torch.inf)
    slot = on_ground.long() - 1  # 0 or SKY
    count = -(-size // TILE)
    depths, slots = _cut(depth, count), _cut(slot, count)
    for layer, near in _layers(views, size, count):
        at = layer.at
        before = depths[at]
        closer = near < before
        depths[at] = torch.where(closer, near, before)
        slots[at] = torch.where(closer, layer.slot[:, None, None], slots[at])
    depth, slot = _joined(depths, count, size), _joined(slots, count, size)
    return torch.where(slot == SKY, 0.0, depth), slot


def _layers(views: Views, size: int, count: int) -> Iterator[tuple[_Tiles, Tensor]]:
    """Slots where they may be seen and the depths (N, TILE, TILE) at which rays enter them, inf where they do not.

    Of a tile the first layer has the first slot, and so on: no layer has a tile twice.
    """
    along = steps(size, count * TILE, views.sun.device).view(count, TILE)
    first, last = along[:, 0], along[:, -1]
    found, entries = [], []
    for (b, k), interval in zip(views.pairs, _INTERVALS, strict=True):
        left, right, bottom, top = views.frame[b, k][:, :, None].unbind(1)
        columns, rows = (first <= right) & (last >= left), (-last <= top) & (-first >= bottom)
        i, row, column = (rows[:, :, None] & columns[:, None, :]).nonzero().unbind(1)
        tiles = _Tiles(b[i], k[i], row, column, count)
        near, far = interval(*tiles.rays(views, size))
        found.append(tiles)
        entries.append(torch.where((near < far) & (near > 0), near, torch.inf))
    view, slot = torch.cat([t.view for t in found]), torch.cat([t.slot for t in found])
    whole = _Tiles(view, slot, torch.cat([t.row for t in found]), torch.cat([t.column for t in found]), count)
    entry = torch.cat(entries)
    order = torch.argsort(whole.at * views.to_unit.shape[1] + whole.slot)
    in_order = whole.at[order]
    rank = torch.arange(len(order), device=order.device) - torch.searchsorted(in_order, in_order)
    for r in range(int(rank.max()) + 1 if len(rank) else 0):
        pick = order[rank == r]
        yield _Tiles(whole.view[pick], whole.slot[pick], whole.row[pick], whole.column[pick], count), entry[pick]


def _in_shadow(views: Views, size: int, depth: Tensor, slot: Tensor) -> Tensor:
    """Whether something stands between a hit and the sun (B, H, W). Shapes are convex: none shades itself."""
    count = -(-size // TILE)
    depths, slots = _cut(depth, count), _cut(slot + 1, count) - 1
    dark = torch.zeros_like(depths, dtype=torch.int32)
    shades = _may_shade(views, size, depth, slot, count)
    for (b, k), interval in zip(views.pairs, _INTERVALS, strict=True):
        i, row, column = shades[b, :, :, k].nonzero().unbind(1)
        tiles = _Tiles(b[i], k[i], row, column, count)
        at = tiles.at
        origin, direction = tiles.rays(views, size)
        along = depths[at]
        hits = [o + along * d for o, d in zip(origin, direction)]
        sun = views.sun_unit[tiles.view, tiles.slot][:, :, None, None]
        near, far = interval(hits, [sun[:, i] for i in range(3)])
        other = slots[at] != tiles.slot[:, None, None]
        dark.index_add_(0, at, ((near < far) & (far > 0) & other).int())
    return _joined(dark > 0, count, size)


def _may_shade(views: Views, size: int, depth: Tensor, slot: Tensor, count: int) -> Tensor:
    """Whether the ball around a slot may stand between a tile's hits and the sun (B, count, count, S)."""
    x, y = plane_axes(views, size)
    seen = _cut((slot != SKY).int(), count) > 0
    low, high = [], []
    for plane in (x * depth, y * depth, -depth):
        at = _cut(plane, count)
        low.append(torch.where(seen, at, torch.inf).amin((1, 2)))
        high.append(torch.where(seen, at, -torch.inf).amax((1, 2)))
    shape = (-1, count, count, 1)
    reach = views.ball[:, None, None, :, 3] + 0.02
    extent = [(b - a).view(shape) / 2 for a, b in zip(low, high)]
    reach = reach + (extent[0] * extent[0] + extent[1] * extent[1] + extent[2] * extent[2]).sqrt()
    apart = [views.ball[:, None, None, :, i] - ((a + b) / 2).view(shape) for i, (a, b) in enumerate(zip(low, high))]
    sun = [views.sun[:, None, None, i, None] for i in range(3)]
    along = apart[0] * sun[0] + apart[1] * sun[1] + apart[2] * sun[2]
    aside = [a - along * s for a, s in zip(apart, sun)]
    missed = aside[0] * aside[0] + aside[1] * aside[1] + aside[2] * aside[2]
    return (missed <= reach * reach) & (along >= -reach)  # of no hits, NaN: False


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
