"""The parts of a decoder that are no plain layer: norm, rotation, gate, and the loss over a large vocabulary.

The loss and, on CPUs, the norm have a backward of their own, since there they are bound by memory and autograd reads
and keeps more than they need. Values are those of the plain formulas; gradients agree with autograd's to rounding.
On GPUs `torch.compile` fuses the plain formulas as well as this could.

Legend: N rows, D dim, B sequences, T positions, H heads, d head dimension, V vocab_size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

IGNORE = -100  # target of a position without loss
LOSS_CHUNK = 8192  # positions whose logits exist at one time
LOSS_CHUNK_CPU = 512  # the same where they should stay in the cache
NORM_CHUNK = 65536  # numbers of x that the norm's backward works on at one time, to stay in the cache


def product_dtype(x: Tensor) -> torch.dtype:
    """What a matrix product of x is computed in: autocast's type where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, computed in float32, in the dtype of the weight: (..., D)."""
    if x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.requires_grad:
        y: Tensor = _RMSNorm.apply(x, weight, eps)
        return y
    return F.rms_norm(x.float(), (x.shape[-1],), weight.float(), eps).to(weight.dtype)


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        dim = x.shape[-1]
        dx, dweight = torch.empty_like(x, memory_format=torch.contiguous_format), torch.zeros_like(weight)
        rows = max(1, NORM_CHUNK // dim)
        pieces = (y.reshape(-1, y.shape[-1]).split(rows) for y in (x, scale, grad, dx))
        for x_, scale_, grad_, dx_ in zip(*pieces):
            both = grad_ * x_
            dweight.addmv_(both.t(), scale_[:, 0])
            along = torch.mv(both, weight)[:, None].mul_(scale_).mul_(scale_).mul_(-1 / dim)
            torch.mul(grad_, weight, out=dx_).addcmul_(x_, along).mul_(scale_)
        return dx, dweight, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (B, T, H, d) by (T, d) tables in half-split order."""
    cos, sin = cos[:, None], sin[:, None]
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    return F.silu(gate) * up


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The loss of each row in nats, (N,) float32, 0 without target; logits exist for LOSS_CHUNK rows at a time.

    Args:
        x: (N, D); weight: (V, D); targets: (N,) int64 in [0, V), or -100 where there is none.
    """
    if len(x) <= LOSS_CHUNK:
        return _losses(x, weight, targets)
    chunks = zip(x.split(LOSS_CHUNK), targets.split(LOSS_CHUNK))
    return torch.cat([checkpoint(_losses, rows, weight, goals, use_reentrant=False) for rows, goals in chunks])


def _losses(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, weight).float(), targets, ignore_index=IGNORE, reduction="none")


def mean_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The mean of `linear_cross_entropy` over rows with a target, (,) float32; 0 if there is none.

    The gradient of a mean is known up to one factor when the loss is, so it is made with it, chunk by chunk: the
    logits are computed once and exist once.
    """
    dtype = product_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        loss: Tensor = _MeanCrossEntropy.apply(x.to(dtype), weight.to(dtype), targets)
    return loss


class _MeanCrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        needs_x, needs_weight, _ = ctx.needs_input_grad
        size = min(len(x), LOSS_CHUNK_CPU if x.device.type == "cpu" else LOSS_CHUNK)
        valid = targets != IGNORE
        goals = torch.where(valid, targets, 0)[:, None]
        ignored = ~valid[:, None]
        some_ignored = x.device.type != "cpu" or bool(ignored.any())  # a GPU need not wait to know
        dx = torch.empty_like(x) if needs_x else None
        dweight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        products = x.new_empty(size, len(weight))
        floats = products if x.dtype == torch.float32 else torch.empty_like(products, dtype=torch.float32)
        total = x.new_zeros((), dtype=torch.float32)
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            x_, goals_ = x[rows], goals[rows]
            product, p = products[: len(x_)], floats[: len(x_)]
            torch.mm(x_, weight.t(), out=product)
            if p is not product:
                p.copy_(product)
            wanted, highest = p.gather(1, goals_), p.amax(1, keepdim=True)
            torch.softmax(p, 1, out=p)
            losses = highest - p.amax(1, keepdim=True).log_() - wanted  # log-sum-exp from the likeliest, never log 0
            total += losses.masked_fill_(ignored[rows], 0).sum()
            if dx is None and dweight is None:
                continue
            p.scatter_add_(1, goals_, p.new_full((len(x_), 1), -1.0))
            if some_ignored:
                p.masked_fill_(ignored[rows], 0)
            if p is not product:
                product.copy_(p)
            if dx is not None:
                torch.mm(product, weight, out=dx[rows])
            if dweight is not None and x.dtype == torch.float32:
                dweight.addmm_(product.t(), x_)
            elif dweight is not None:
                dweight += product.t() @ x_
        count = valid.sum().clamp_min(1)
        ctx.save_for_backward(count, dx, dweight)
        ctx.dtype = weight.dtype
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        count, dx, dweight = ctx.saved_tensors
        share = grad / count
        return (
            None if dx is None else dx * share.to(dx.dtype),
            None if dweight is None else (dweight * share).to(ctx.dtype),
            None,
        )
