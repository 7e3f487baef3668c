"""Nearest code: every latent takes the code vector closest to it.

In: latents (N, C) float. Out: quantised latents with a straight-through gradient, codes (N,), and the losses.

Papers: VQ-VAE (arXiv 1711.00937) for nearest code, codebook and commitment loss, and the moving-average codebook;
ViT-VQGAN (arXiv 2110.04627) for codes compared by direction, as in LlamaGen; Jukebox (arXiv 2005.00341) for
dead-code revival: a code that is hardly used is moved onto a latent of the running batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.recipe import Range
from lvmlite.tokenizers.quantizers.base import Quantized, Quantizer

PLACING = 1 << 35  # most distances computed to place the codes
SEARCH_CHUNK = 1 << 22  # most entries of a distance matrix at one time: 16 MB stay near the processor


@dataclass
class NearestCodeConfig:
    """Nearest-code vector quantiser.

    Attributes:
        codebook_size: number of codes K.
        codebook_dim: dimension C of a code.
        normalize: latents and codes are compared, and passed on, at length 1 (LlamaGen).
        learn: how codes follow their latents: "ema" by moving average, "gradient" by the codebook loss
            |sg(z) - code|^2.
        commitment_weight: weight of |z - sg(code)|^2; codebook_weight: of the codebook loss.
        ema_decay: of the moving averages of codes ("ema") and of how much each is used.
        revive_below: a code with a moving-average use of less than this many latents a step is revived; where a step
            has fewer latents than codes, of less than this share of the mean.
    """

    quantizer: Literal["nearest"] = "nearest"
    codebook_size: Annotated[int, Range(2, 2**18)] = 8192
    codebook_dim: Annotated[int, Range(1)] = 64
    normalize: bool = False
    learn: Literal["ema", "gradient"] = "ema"
    commitment_weight: Annotated[float, Range(0)] = 0.25
    codebook_weight: Annotated[float, Range(0)] = 1.0
    ema_decay: Annotated[float, Range(0, 1)] = 0.99
    revive_below: Annotated[float, Range(0)] = 0.05


class NearestCode(Quantizer):
    """Codes are rows of `embedding.weight` (K, C)."""

    has_codebook: ClassVar[bool] = True
    deciding: ClassVar[tuple[str, ...]] = ("quantizer", "normalize")

    def __init__(self, config: NearestCodeConfig):
        super().__init__()
        self.config = config
        self.codebook_size, self.dim = config.codebook_size, config.codebook_dim
        self.embedding = nn.Embedding(config.codebook_size, config.codebook_dim)
        self.embedding.weight.requires_grad_(config.learn == "gradient")
        self.register_buffer("use", torch.zeros(config.codebook_size), persistent=False)
        self.register_buffer("total", torch.zeros(config.codebook_size, config.codebook_dim), persistent=False)
        self.use: Tensor
        self.total: Tensor

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Uniform in 1 / K, as published."""
        codes = self.embedding.weight
        codes.copy_((torch.rand(codes.shape, generator=generator) * 2 - 1) / len(codes))

    def scaled(self, vectors: Tensor) -> Tensor:
        """Vectors (..., C) as they are compared: at length 1 if the config says so."""
        return F.normalize(vectors, dim=-1) if self.config.normalize else vectors

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Index of the nearest code by Euclidean distance, ties to the lowest; the distance matrix is chunked.

        Args:
            latents: (N, C) float32.

        Returns:
            (N,) int64.
        """
        latents, codes = self.scaled(latents), self.scaled(self.embedding.weight)
        half_norm = codes.square().sum(1).mul(0.5)
        rows = max(1, SEARCH_CHUNK // len(codes))
        distances = (torch.addmm(half_norm, part, codes.t(), alpha=-1) for part in latents.split(rows))
        found = [distance.min(1).indices for distance in distances]  # on a CPU three times faster than argmin
        return torch.cat(found) if found else latents.new_zeros(0, dtype=torch.long)

    def decode(self, codes: Tensor) -> Tensor:
        return self.scaled(F.embedding(codes, self.embedding.weight))

    def forward(self, latents: Tensor) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            codes = self.encode(latents)
        z, chosen = self.scaled(latents), self.decode(codes)
        commitment = F.mse_loss(z, chosen.detach())
        loss = self.config.commitment_weight * commitment
        if self.config.learn == "gradient":
            loss = loss + self.config.codebook_weight * F.mse_loss(chosen, z.detach())
        return Quantized(z + (chosen - z).detach(), codes, loss, {"commitment": commitment})

    @torch.no_grad()
    def place(self, latents: Tensor, generator: torch.Generator) -> None:
        """Place the codes on latents (N, C) by k-means; a centre that wins nothing jumps to a random latent.

        Eight rounds; fewer, at last none, where N x K is so large that each would take minutes.

        Args:
            generator: on the CPU.
        """
        latents = self.scaled(latents)
        k, n = self.config.codebook_size, len(latents)
        rows = torch.cat([torch.randperm(n, generator=generator) for _ in range(-(-k // n))])[:k]
        self.embedding.weight.copy_(latents[rows.to(latents.device)])
        for _ in range(min(8, PLACING // (n * k))):
            count, summed = self.tally(latents, self.encode(latents))
            lost = (count == 0).nonzero().flatten()
            jump = torch.randint(n, (len(lost),), generator=generator).to(latents.device)
            summed[lost], count[lost] = latents[jump], 1.0
            self.embedding.weight.copy_(summed / count[:, None])
        self.use.fill_(1.0)
        self.total.copy_(self.embedding.weight)

    def tally(self, latents: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """How many latents each code won (K,), and their sum (K, C)."""
        (count,) = super().tally(latents, codes)
        return count, torch.zeros_like(self.total).index_add_(0, codes, self.scaled(latents.float()))

    @torch.no_grad()
    def update(self, count: Tensor, summed: Tensor) -> Tensor:  # type: ignore[override]
        """One moving-average step of the use, and of the codebook if it has no gradient.

        A code that has not won for so long that its average is lost in rounding stays where it is.
        """
        decay = self.config.ema_decay
        self.use.lerp_(count, 1 - decay)
        self.total.lerp_(summed, 1 - decay)
        if self.config.learn == "ema":
            mean = self.total / self.use[:, None].clamp_min(1e-5)
            self.embedding.weight.copy_(torch.where(self.use[:, None] > 1e-5, mean, self.embedding.weight))
        fair = (count.sum() / self.codebook_size).clamp_max(1)
        return (self.use < self.config.revive_below * fair).nonzero().flatten()

    @torch.no_grad()
    def revive(self, dead: Tensor, latents: Tensor) -> None:
        latents = self.scaled(latents.float())
        self.use[dead] = 1.0
        self.total[dead] = latents
        self.embedding.weight[dead] = latents

    def training_state(self) -> dict[str, Tensor]:
        return {"use": self.use, "total": self.total}
