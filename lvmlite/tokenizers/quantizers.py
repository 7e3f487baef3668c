"""Quantisers: latent vectors to codes.

In: latents (N, C) float. Out: quantised latents with a straight-through gradient, codes (N,), and the losses.

Papers: VQ-VAE (arXiv 1711.00937) for nearest code, commitment and the moving-average codebook; dead-code revival as
in Jukebox (arXiv 2005.00341): a code that is hardly used is moved onto a latent of the running batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.recipe import Range

SEARCH_CHUNK = 1 << 22  # most entries of a distance matrix at one time: 16 MB stay near the processor


@dataclass
class NearestCodeConfig:
    """Nearest-code vector quantiser.

    Attributes:
        codebook_size: number of codes K.
        codebook_dim: dimension C of a code.
        commitment_weight: weight of |z - sg(code)|^2.
        ema_decay: of the moving-average codebook; the codebook has no gradient.
        revive_below: a code with a moving-average use of less than this many latents a step is revived.
    """

    codebook_size: Annotated[int, Range(2, 2**18)] = 8192
    codebook_dim: Annotated[int, Range(1)] = 64
    commitment_weight: Annotated[float, Range(0)] = 0.25
    ema_decay: Annotated[float, Range(0, 1)] = 0.99
    revive_below: Annotated[float, Range(0)] = 0.05


class Quantized(NamedTuple):
    latents: Tensor  # (N, C), gradient passes straight to the input
    codes: Tensor  # (N,) int64
    loss: Tensor  # scalar: weighted commitment


class NearestCode(nn.Module):
    """Codes are rows of `embedding.weight` (K, C), learned as moving averages of the latents they win."""

    def __init__(self, config: NearestCodeConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.codebook_size, config.codebook_dim)
        self.embedding.weight.requires_grad_(False)
        bound = 1 / config.codebook_size
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        self.register_buffer("use", torch.zeros(config.codebook_size), persistent=False)
        self.register_buffer("total", torch.zeros(config.codebook_size, config.codebook_dim), persistent=False)
        self.use: Tensor
        self.total: Tensor

    def nearest(self, latents: Tensor) -> Tensor:
        """Index of the nearest code by Euclidean distance, ties to the lowest; the distance matrix is chunked.

        Args:
            latents: (N, C) float32.

        Returns:
            (N,) int64.
        """
        codes = self.embedding.weight
        half_norm = codes.square().sum(1).mul(0.5)
        rows = max(1, SEARCH_CHUNK // len(codes))
        distances = (torch.addmm(half_norm, part, codes.t(), alpha=-1) for part in latents.split(rows))
        found = [distance.min(1).indices for distance in distances]  # on a CPU three times faster than argmin
        return torch.cat(found) if found else latents.new_zeros(0, dtype=torch.long)

    def forward(self, latents: Tensor) -> Quantized:
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            codes = self.nearest(latents)
        chosen = F.embedding(codes, self.embedding.weight)
        loss = self.config.commitment_weight * F.mse_loss(latents, chosen)
        return Quantized(latents + (chosen - latents).detach(), codes, loss)

    @torch.no_grad()
    def place(self, latents: Tensor, generator: torch.Generator, rounds: int = 8) -> None:
        """Place the codes on latents (N, C) by k-means; a centre that wins nothing jumps to a random latent.

        Args:
            generator: on the CPU.
        """
        k, n = self.config.codebook_size, len(latents)
        rows = torch.cat([torch.randperm(n, generator=generator) for _ in range(-(-k // n))])[:k]
        self.embedding.weight.copy_(latents[rows.to(latents.device)])
        for _ in range(rounds):
            count, summed = self.tally(latents, self.nearest(latents))
            lost = (count == 0).nonzero().flatten()
            jump = torch.randint(n, (len(lost),), generator=generator).to(latents.device)
            summed[lost], count[lost] = latents[jump], 1.0
            self.embedding.weight.copy_(summed / count[:, None])
        self.use.fill_(1.0)
        self.total.copy_(self.embedding.weight)

    def tally(self, latents: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """How many latents each code won (K,), and their sum (K, C)."""
        ones = torch.ones_like(codes, dtype=torch.float32)
        count = torch.zeros_like(self.use).index_add_(0, codes, ones)
        return count, torch.zeros_like(self.total).index_add_(0, codes, latents.float())

    @torch.no_grad()
    def update(self, count: Tensor, summed: Tensor) -> Tensor:
        """One moving-average step of the codebook from a step's tally; gives the codes that are dead, (D,) int64.

        A code that has not won for so long that its average is lost in rounding stays where it is.
        """
        decay = self.config.ema_decay
        self.use.lerp_(count, 1 - decay)
        self.total.lerp_(summed, 1 - decay)
        mean = self.total / self.use[:, None].clamp_min(1e-5)
        self.embedding.weight.copy_(torch.where(self.use[:, None] > 1e-5, mean, self.embedding.weight))
        return (self.use < self.config.revive_below).nonzero().flatten()

    @torch.no_grad()
    def revive(self, dead: Tensor, latents: Tensor) -> None:
        """Move the dead codes (D,) onto latents (D, C)."""
        self.use[dead] = 1.0
        self.total[dead] = latents.float()
        self.embedding.weight[dead] = latents.float()
