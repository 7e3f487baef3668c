"""Sampling: from logits to codes, with noise that is a function of numbers and not of a generator's state.

In: logits (R, K) of codes only, and a uniform number a row. Out: one code a row.

Legend: R rows, K codebook_size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from lvmlite.recipe import Range


@dataclass(frozen=True)
class Sampling:
    """How a code is drawn from the model's logits. Defaults are the papers'.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest code.
        top_k: only the k likeliest codes, ties to the lower code; 0 is all, 1 the likeliest.
        top_p: then only the fewest likeliest codes that hold this share of what is left.
        seed: of the noise.
    """

    temperature: Annotated[float, Range(0)] = 1.0
    top_k: Annotated[int, Range(0)] = 100
    top_p: Annotated[float, Range(0, 1)] = 1.0
    seed: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be a number >= 0, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be >= 0 (0 keeps all codes), got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be >= 0 and below 2^64, got {self.seed}")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0 or self.top_k == 1


def pick(logits: Tensor, u: Tensor, sampling: Sampling) -> Tensor:
    """One code a row by inverting the distribution function, summed in order of code index.

    Args:
        logits: (R, K) float32, of codes only.
        u: (R,) in (0, 1), float64 where the device has it.

    Returns:
        (R,) int64.
    """
    if sampling.greedy:
        return logits.argmax(-1)
    x = logits.to(u.dtype)
    p = ((x - x.amax(-1, keepdim=True)) / sampling.temperature).exp()
    if 0 < sampling.top_k < logits.shape[1]:
        p = p * _top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        p = p * _top_p(p, sampling.top_p)
    cdf = p.cumsum(-1)
    return torch.searchsorted(cdf, u[:, None] * cdf[:, -1:], right=True)[:, 0].clamp(max=logits.shape[1] - 1)


def _top_k(logits: Tensor, k: int) -> Tensor:
    """Where the k greatest of each row are, (R, K) bool; of equals, the first."""
    least = logits.topk(k, dim=-1).values[:, -1:]
    above, level = logits > least, logits == least
    return above | (level & (level.cumsum(-1) <= k - above.sum(-1, keepdim=True)))


def _top_p(p: Tensor, share: float) -> Tensor:
    """Where the fewest greatest of each row are that sum to `share` of it, (R, K) bool; of equals, the first."""
    values, order = p.sort(dim=-1, descending=True, stable=True)
    total = values.cumsum(-1)
    return torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, total - values < share * total[:, -1:])


def uniforms(seed: int, queries: np.ndarray, candidates: np.ndarray, n_new: int) -> np.ndarray:
    """Noise in (0, 1), (queries x candidates, n_new) float64: a hash of (seed, query, candidate, position).

    splitmix64's finaliser (Steele, Lea, Flood 2014), chained; 32 bits of it, never within 2^-20 of 1, so that the
    product with a sum stays below the sum.
    """
    position = np.arange(n_new, dtype=np.uint64)
    hashed = _mix(_mix(np.array([seed], np.uint64)) ^ queries.astype(np.uint64))
    hashed = _mix(hashed[:, None] ^ candidates.astype(np.uint64)).reshape(-1)
    hashed = _mix(hashed[:, None] ^ position) >> np.uint64(32)
    return np.minimum((hashed.astype(np.float64) + 0.5) / 2**32, 1 - 2**-20)


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)  # arrays of uint64 wrap around
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def exact_dtype(device: torch.device) -> torch.dtype:
    """In which sums of probabilities are taken: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
