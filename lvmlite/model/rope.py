"""Rotary positions (RoFormer, arXiv 2104.09864) in Hugging Face's half-split order, and two ways to longer contexts.

Legend: T positions, H heads, d head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lvmlite.model.architecture import Architecture


def rope_table(arch: Architecture, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary angles, each (n, d) float32 in Hugging Face's half-split order."""
    d = arch.head_dim
    frequency = 1.0 / arch.rope_theta ** (torch.arange(0, d, 2, dtype=torch.float32, device=device) / d)
    angle = torch.outer(torch.arange(n, dtype=torch.float32, device=device) / arch.rope_factor, frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()
