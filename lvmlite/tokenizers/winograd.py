"""Convolutions of 3 x 3 with a quarter of the multiplications, for encoding and decoding in float32 on a CPU.

In: feature maps (N, C, H, W), channels last in memory. Out: maps (N, K, H, W), equal to `conv2d(padding=1)` up to
rounding (about 1e-5 of the largest value). Group norm and SiLU before the convolution are applied to each strip while
it lies in the cache, instead of in passes of their own over memory.

Paper: Fast Algorithms for Convolutional Neural Networks (Lavin and Gray, arXiv 1509.09308), F(4 x 4, 3 x 3): tiles of
6 x 6 inputs are moved to 36 frequencies, at each of which the convolution is one matrix product over channels, and
back to 4 x 4 outputs. Legend: T tiles.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1 << 21  # values of the 36 frequencies at one time: the tiles between two steps stay in the cache

WEIGHT = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # / 24


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
    pixels, out = x.permute(0, 2, 3, 1), x.new_empty(n, down, 4, across, 4, k)
    strip = x.new_zeros(many, 4 * rows + 2, 4 * across + 2, c)  # with a border of zeros
    room, wide = many * rows * across, many * rows * (4 * across + 2)
    spare, middle, moved = (x.new_empty(size) for size in (2 * 6 * wide * c, 6 * wide * c, 36 * room * c))
    product, half, rest = (x.new_empty(size * room * k) for size in (36, 24, 24))
    for i in range(0, n, many):
        m = min(many, n - i)
        for r in range(0, down, rows):
            e = min(rows, down - r)
            t = m * e * across
            piece = strip[:m, : 4 * e + 2]
            fill(piece, pixels[i : i + m], 4 * r - 1, norm and (norm[0][i:], norm[1][i:]))
            # columns of tiles first, then rows: (6, M, rows, width + border, C), then (6, 6, T, C)
            first = shaped(middle, 6, m, e, 4 * across + 2, c)
            into([piece[:, at : at + 4 * e : 4] for at in range(6)], list(first), spare)
            v = shaped(moved, 6, 6, m, e, across, c)
            into([first[..., at : at + 4 * across : 4, :] for at in range(6)], list(v.unbind(1)), spare)
            y = shaped(product, 36, t, k)
            torch.bmm(v.view(36, t, c), transformed, out=y)
            z = shaped(half, 4, 6, m, e, across, k)
            back(list(y.view(6, 6, m, e, across, k)), list(z), rest)
            place = out[i : i + m, r : r + e].permute(2, 4, 0, 1, 3, 5)  # (4, 4, M, rows, tiles, K)
            back(list(z.unbind(1)), list(place.unbind(1)), rest, bias)
    return out.view(n, 4 * down, 4 * across, k)[:, :h, :w].permute(0, 3, 1, 2)


def shaped(buffer: Tensor, *shape: int) -> Tensor:
    """The beginning of a flat buffer in a shape."""
    return buffer[: math.prod(shape)].view(shape)


def into(d: list[Tensor], to: list[Tensor], spare: Tensor) -> None:
    """Six inputs along one side of a tile to six frequencies: the paper's B^T d, common terms once."""
    p, q = shaped(spare, 2, *d[0].shape)
    torch.sub(d[4], d[2], alpha=4, out=p)
    torch.sub(d[3], d[1], alpha=4, out=q)
    torch.add(p, q, out=to[1])
    torch.sub(p, q, out=to[2])
    torch.sub(d[4], d[2], out=p)
    torch.sub(d[3], d[1], out=q)
    torch.add(p, q, alpha=2, out=to[3])
    torch.sub(p, q, alpha=2, out=to[4])
    torch.sub(d[0], d[2], out=to[0])
    torch.add(p, to[0], alpha=4, out=to[0])
    torch.sub(d[5], d[3], out=to[5])
    torch.sub(to[5], q, alpha=4, out=to[5])


def back(y: list[Tensor], to: list[Tensor], spare: Tensor, bias: Tensor | None = None) -> None:
    """Six frequencies to four outputs along one side of a tile: the paper's A^T y, common terms once."""
    p, q, r, s = shaped(spare, 4, *y[0].shape)
    torch.add(y[1], y[2], out=p)
    torch.sub(y[1], y[2], out=q)
    torch.add(y[3], y[4], out=r)
    torch.sub(y[3], y[4], out=s)
    if bias is not None:  # reaches every output once
        p += bias
        q += bias
    torch.add(p, r, alpha=4, out=to[2])
    p += r
    torch.add(p, y[0], out=to[0])
    torch.add(q, s, alpha=2, out=to[1])
    torch.add(q, s, alpha=8, out=s)
    torch.add(s, y[5], out=to[3])


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
