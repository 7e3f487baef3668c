"""The parts of a block that are no matrix product, each with its own backward: fewer passes over memory.

On CPUs and GPUs alike these parts are bound by memory, not by arithmetic, and autograd keeps and reads more than they
need. Values are those of the plain formulas, which stand beside them in the tests; gradients agree to rounding.

Legend: N rows, D dim, F hidden_dim, H heads, T positions, d head dimension, V vocab_size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

IGNORE = -100  # target of a position without loss
LOSS_CHUNK = 8192  # positions whose logits exist at one time


def compute_dtype(x: Tensor) -> torch.dtype:
    """What a matrix product of x is computed in: autocast's type where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, computed in float32; in the type that products are computed in."""
    y = F.rms_norm(x.float(), (x.shape[-1],), weight.float(), eps)
    return y.to(weight.dtype)


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


def mean_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The mean of `linear_cross_entropy` over rows with a target, (,) float32."""
    return linear_cross_entropy(x, weight, targets).sum() / (targets != IGNORE).sum().clamp_min(1)


def _losses(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, weight).float(), targets, ignore_index=IGNORE, reduction="none")
