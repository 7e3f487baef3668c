"""Convolutions of 3 x 3 with a quarter of the multiplications, for encoding and decoding in float32 on a CPU.

In: feature maps (N, C, H, W), channels last in memory. Out: maps (N, K, H, W), equal to `conv2d(padding=1)` up to
rounding (about 1e-5 of the largest value). Group norm and SiLU before the convolution are applied to each strip while
it lies in the cache, instead of in passes of their own over memory.

Paper: Fast Algorithms for Convolutional Neural Networks (Lavin and Gray, arXiv 1509.09308), F(4 x 4, 3 x 3): tiles of
6 x 6 inputs are moved to 36 frequencies, at each of which the convolution is one matrix product over channels, and
back to 4 x 4 outputs. Legend: T tiles.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1 << 20  # values of the 36 frequencies at one time: the tiles between two steps stay in the cache

INPUT = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
WEIGHT = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # / 24
OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


@torch.no_grad()
def transform(weight: Tensor) -> Tensor:
    """The weight (K, C, 3, 3) of a convolution at the 36 frequencies, (36, C, K) float32."""
    g = torch.tensor(WEIGHT, dtype=torch.float32) / 24
    k, c = weight.shape[:2]
    at = torch.kron(g, g) @ weight.detach().float().permute(2, 3, 1, 0).reshape(9, c * k)
    return at.view(36, c, k)


@torch.no_grad()
def convolve(x: Tensor, transformed: Tensor, bias: Tensor | None, norm: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The convolution of x, or of silu(x * scale + shift).

    Args:
        x: (N, C, H, W) float32, channels last in memory.
        transformed: (36, C, K), see `transform`; bias: (K,).
        norm: scale and shift, (N, C) each.
    """
    n, c, h, w = x.shape
    k = transformed.shape[2]
    down, across = -(-h // 4), -(-w // 4)  # tiles
    rows = min(down, max(1, CHUNK // (36 * across * max(c, k))))  # of tiles in a strip
    many = min(n, max(1, CHUNK // (36 * across * down * max(c, k)))) if rows == down else 1  # pictures in a strip
    into, back = (torch.kron(m, m) for m in (x.new_tensor(INPUT), x.new_tensor(OUTPUT)))
    pixels, out = x.permute(0, 2, 3, 1), x.new_empty(n, down, 4, across, 4, k)
    strip = x.new_zeros(many, 4 * rows + 2, 4 * across + 2, c)  # with a border of zeros
    room = many * rows * across
    tile, moved, product, result = (x.new_empty(size * room) for size in (36 * c, 36 * c, 36 * k, 16 * k))
    for i in range(0, n, many):
        some = min(many, n - i)
        for r in range(0, down, rows):
            e = min(rows, down - r)
            t = some * e * across
            fill(strip[:some, : 4 * e + 2], pixels[i : i + some], 4 * r - 1, norm and (norm[0][i:], norm[1][i:]))
            s = strip.stride()
            tiles = strip.as_strided((6, 6, some, e, across, c), (s[1], s[2], s[0], 4 * s[1], 4 * s[2], 1))
            d, v = tile[: 36 * t * c], moved[: 36 * t * c]
            m, y = product[: 36 * t * k], result[: 16 * t * k]
            d.view(tiles.shape).copy_(tiles)
            torch.mm(into, d.view(36, t * c), out=v.view(36, t * c))
            torch.bmm(v.view(36, t, c), transformed, out=m.view(36, t, k))
            torch.mm(back, m.view(36, t * k), out=y.view(16, t * k))
            squares = y.view(4, 4, some, e, across, k).permute(2, 3, 0, 4, 1, 5)
            place = out[i : i + some, r : r + e]
            if bias is None:
                place.copy_(squares)
            else:
                torch.add(squares, bias, out=place)
    return out.view(n, 4 * down, 4 * across, k)[:, :h, :w].permute(0, 3, 1, 2)


def fill(strip: Tensor, pixels: Tensor, top: int, norm: tuple[Tensor, Tensor] | None) -> None:
    """Put rows `top` and following of the pictures into a strip (M, rows, W + border, C); rows outside are zero."""
    m, n_rows = strip.shape[:2]
    h, w = pixels.shape[1:3]
    low, high = max(top, 0), min(top + n_rows, h)
    strip[:, : low - top] = 0
    strip[:, high - top :] = 0
    inside, source = strip[:, low - top : high - top, 1 : w + 1], pixels[:, low:high]
    if norm is None:
        inside.copy_(source)
    else:
        scale, shift = (of[:m, None, None] for of in norm)
        F.silu(torch.addcmul(shift, source, scale, out=inside), inplace=True)


@torch.no_grad()
def group_affine(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Group norm as a scale and a shift per channel, (N, C) each: group_norm(x) = x * scale + shift.

    Two passes, the second over differences from the mean, so that a mean far from 0 costs no digits.
    """
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
    mean = pixels.mean(1)
    rows = max(1, CHUNK // 4 // c)
    centred = x.new_empty(min(rows, h * w), c)
    squares = torch.zeros_like(mean)
    for i in range(n):
        for part in pixels[i].split(rows):
            d = torch.sub(part, mean[i], out=centred[: len(part)])
            squares[i] += torch.linalg.vecdot(d, d, dim=0)
    means = mean.view(n, groups, -1)
    middle = means.mean(2, keepdim=True)
    variance = (squares.view(means.shape) / (h * w) + (means - middle).square()).mean(2, keepdim=True)
    scale = (variance + eps).rsqrt().expand_as(means).reshape(n, c) * weight
    return scale, bias - middle.expand_as(means).reshape(n, c) * scale
