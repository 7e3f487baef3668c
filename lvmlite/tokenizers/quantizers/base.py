"""What every quantiser offers: latent vectors to codes and back, and what training does with its codes.

In: latents (N, C) float32. Out: quantised latents with a straight-through gradient, codes (N,) int64, and a loss.
Legend: N latents, C their width, K codes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Quantized(NamedTuple):
    latents: Tensor  # (N, C), gradient passes straight to the input
    codes: Tensor  # (N,) int64
    loss: Tensor  # scalar, weighted: commitment, codebook, entropy, as the quantiser has them
    parts: dict[str, Tensor]  # of the loss, unweighted, to log


class Quantizer(nn.Module):
    """Base class.

    Attributes:
        codebook_size: K; dim: C.
        has_codebook: its codes are vectors that are learned: they are placed, averaged, revived.
        deciding: names of config fields that decide codes and do not show in names and shapes of tensors.
    """

    codebook_size: int
    dim: int
    has_codebook: ClassVar[bool] = False
    deciding: ClassVar[tuple[str, ...]] = ("quantizer",)

    @abstractmethod
    def encode(self, latents: Tensor) -> Tensor:
        """(N, C) float32 -> codes (N,) int64. No gradient."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N,) int64 in [0, K) -> the latents (N, C) they stand for."""

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Training's pass."""

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw what is learned, if anything, from a generator on the CPU."""

    # --- what training does with a codebook; a quantiser without one only counts

    @torch.no_grad()
    def place(self, latents: Tensor, generator: torch.Generator) -> None:
        """Place the codes on latents (N, C), once, before they are first used. generator: on the CPU."""

    @torch.no_grad()
    def tally(self, latents: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
        """Of a step: how many latents each code won (K,) float32, and what else `update` needs. Ranks add theirs."""
        count = torch.zeros(self.codebook_size, device=codes.device)
        return (count.index_add_(0, codes, torch.ones_like(codes, dtype=torch.float32)),)

    @torch.no_grad()
    def update(self, *tally: Tensor) -> Tensor:
        """Take in a step's tally, summed over ranks; gives the codes that are dead, (D,) int64."""
        return torch.zeros(0, dtype=torch.long, device=tally[0].device)

    @torch.no_grad()
    def revive(self, dead: Tensor, latents: Tensor) -> None:
        """Move the dead codes (D,) onto latents (D, C)."""

    def training_state(self) -> dict[str, Tensor]:
        """Tensors beyond the state dict that resuming needs, changed in place by `update`."""
        return {}
