"""Attention: `scaled_dot_product_attention` is the reference; a faster exact path where PyTorch's kernel is slow.

On CPUs in bf16, the backward of PyTorch's flash kernel dominates a training step at short contexts. There the scores of
a few hundred positions fit a cache, so plain products and a softmax per block of queries win: measured on one core,
64 sequences of 64 positions take 8 ms instead of 42, 8 of 512 about the same or half; at 4096 the kernel wins.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128  # queries whose scores exist at one time
LONGEST = 1024  # between 512, where this path is no slower, and 4096, where PyTorch's kernel wins


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of q (B, H, T, d) on k, v (B, G, L, d): causal if `mask` is None and T > 1, else as the mask says.

    Args:
        mask: bool, True where a query may look, broadcastable to (B, H, T, L).

    Returns:
        (B, H, T, d).
    """
    causal = mask is None and q.shape[2] > 1
    grouped = k.shape[1] != q.shape[1]
    training = q.requires_grad and q.device.type == "cpu" and q.dtype == torch.bfloat16
    if causal and training and not grouped and q.shape[2] <= LONGEST:
        return blockwise_causal(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


def blockwise_causal(q: Tensor, k: Tensor, v: Tensor, block: int = BLOCK) -> Tensor:
    """Exact causal attention, all (B, H, T, d): blocks of queries against the keys up to their last."""
    b, h, t, d = q.shape
    q, k, v = (x.reshape(b * h, t, d) for x in (q * d**-0.5, k, v))
    ahead = torch.full((block, block), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    out = []
    for start in range(0, t, block):
        end = min(start + block, t)
        mask = F.pad(ahead[: end - start, : end - start], (start, 0))
        scores = torch.baddbmm(mask, q[:, start:end], k[:, :end].transpose(1, 2))
        out.append(scores.softmax(-1) @ v[:, :end])
    return torch.cat(out, 1).view(b, h, t, d)
