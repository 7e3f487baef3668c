"""Finite scalar quantisation: every latent dimension is bounded and rounded to a few levels. No codebook, no loss.

In: latents (N, C) float. Out: values in [-1, 1] with a straight-through gradient, codes (N,).

Paper: FSQ (arXiv 2309.15505), with the bound of its appendix. A code is a number of mixed radix, its digits the levels,
lowest first; the first dimension is the lowest digit. levels (3, 5, 4): digits (1, 3, 0) are 1 + 3*3 + 0*15 = code 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lvmlite.tokenizers.quantizers.base import Quantized, Quantizer

MAX_CODES = 2**18
MAX_LEVELS = 256  # from about 1000 on, MARGIN would put a dimension's outermost levels out of reach
MARGIN = 1e-3  # of the bound, published: keeps rounding from giving one level too many


@dataclass
class FSQConfig:
    """Finite scalar quantiser.

    Attributes:
        levels: of each dimension; K is their product, C their number. The paper's for about 2^8, 2^10, 2^12, 2^14 and
            2^16 codes: (8, 6, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5), (8, 8, 8, 5, 5, 5).
    """

    quantizer: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (8, 8, 8, 6, 5)

    def __post_init__(self) -> None:
        if not self.levels or not all(2 <= level <= MAX_LEVELS for level in self.levels):
            raise ValueError(f"levels must hold numbers from 2 to {MAX_LEVELS}, got {list(self.levels)}")
        if self.codebook_size > MAX_CODES:
            raise ValueError(f"levels must have a product of at most {MAX_CODES} codes, got {self.codebook_size}")

    @property
    def codebook_size(self) -> int:
        return math.prod(self.levels)

    @property
    def codebook_dim(self) -> int:
        return len(self.levels)


class FSQ(Quantizer):
    """L levels of a dimension are the whole numbers from -(L // 2) to (L - 1) // 2, over L // 2.

    They are what the decoder sees, not fixed points of `encode`: a tanh stands before the rounding, and takes 1 to the
    outermost level only if there are few. `codes` is the inverse of `decode`.
    """

    deciding: ClassVar[tuple[str, ...]] = ("quantizer", "levels")

    def __init__(self, config: FSQConfig):
        super().__init__()
        self.codebook_size, self.dim = config.codebook_size, config.codebook_dim
        reach = [(level - 1) * (1 - MARGIN) / 2 for level in config.levels]
        offset = [0.0 if level % 2 else 0.5 for level in config.levels]  # an even number lies half a level lower
        constants = {
            "reach": reach,
            "offset": offset,
            "shift": [math.tan(o / r) for o, r in zip(offset, reach)],  # takes latents 0 to about 0
            "levels": config.levels,
            "middle": [level // 2 for level in config.levels],
            "radix": [math.prod(config.levels[:i]) for i in range(self.dim)],
        }
        for name, numbers in constants.items():
            self.register_buffer(name, torch.tensor(numbers), persistent=False)
        self.reach: Tensor
        self.offset: Tensor
        self.shift: Tensor
        self.levels: Tensor
        self.middle: Tensor
        self.radix: Tensor

    def bound(self, latents: Tensor) -> Tensor:
        """(N, C) -> (N, C) float32; rounded, it is a level."""
        return torch.tanh(latents.float() + self.shift) * self.reach - self.offset

    def codes(self, values: Tensor) -> Tensor:
        """Values (N, C) as `decode` gives them -> codes (N,) int64."""
        return self._number(values * self.middle)

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        return self._number(self.bound(latents))

    def decode(self, codes: Tensor) -> Tensor:
        return (codes[:, None] // self.radix % self.levels - self.middle) / self.middle

    def forward(self, latents: Tensor) -> Quantized:
        codes, z = self.encode(latents), self.bound(latents) / self.middle
        return Quantized(self.decode(codes) + (z - z.detach()), codes, z.new_zeros(()), {})

    def _number(self, bounded: Tensor) -> Tensor:
        """Levels (N, C), exact or to be rounded -> the codes (N,) of which they are the digits."""
        return ((bounded.round().long() + self.middle) * self.radix).sum(1)
