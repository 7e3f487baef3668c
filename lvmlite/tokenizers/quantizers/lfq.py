"""Binary codes without a codebook: the sign of every latent dimension is a bit. LFQ, and BSQ on the unit sphere.

In: latents (N, C) float. Out: codes of +-1 (LFQ) or +-1/sqrt(C) (BSQ) with a straight-through gradient, codes (N,), and
the losses. Bit i of a code is dimension i, the first the lowest; it is 1 where the latent is above 0.

Papers: MAGVIT-v2 (arXiv 2310.05737) for lookup-free quantisation and the entropy loss; BSQ (arXiv 2406.07548) for the
sphere, for the distribution that is a product over bits, and for the entropy of the mean in groups of bits.

What is unusual: the loss is about the soft assignment of N latents to K codes, softmax(-|z - c|^2 / temperature), which
is (N, K) and never made. It is a product over bits, each 1 with probability sigmoid(4 z c / temperature), so a latent's
entropy is the sum over its bits; and the mean over latents is one matrix product of the distributions of half of the
bits: (sqrt(K), N) x (N, sqrt(K)). Both are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lvmlite.recipe import Range
from lvmlite.tokenizers.quantizers.base import Quantized, Quantizer

MAX_BITS = 18
MEAN_CHUNK = 1 << 22  # most entries of a distribution over half of the bits at one time


@dataclass
class BinaryConfig:
    """What LFQ and BSQ share.

    Attributes:
        codebook_size: number of codes K, a power of two; latents have C = log2 K dimensions.
        commitment_weight: weight of |z - sg(code)|^2.
        entropy_weight: weight of the entropy loss: the mean entropy of a latent's soft assignment (each is to be
            decided) less `diversity_weight` times the entropy of the mean assignment (all codes are to be used).
        temperature: of the soft assignment.
        group_bits: the entropy of the mean is that of all codes if this is at least log2 K. Otherwise it is summed over
            groups of so many bits, the last maybe smaller: no less than the whole, cheaper, and not limited by how many
            latents a step has, but blind to dependence between groups.
    """

    codebook_size: Annotated[int, Range(2, 2**MAX_BITS)] = 8192
    commitment_weight: Annotated[float, Range(0)] = 0.25
    entropy_weight: Annotated[float, Range(0)] = 0.1
    diversity_weight: Annotated[float, Range(0)] = 1.0
    temperature: Annotated[float, Range(1e-4)] = 1.0
    group_bits: Annotated[int, Range(1, MAX_BITS)] = MAX_BITS

    def __post_init__(self) -> None:
        if self.codebook_size not in [2**bits for bits in range(1, MAX_BITS + 1)]:
            raise ValueError(f"codebook_size must be a power of two from 2 to {2**MAX_BITS}, got {self.codebook_size}")

    @property
    def codebook_dim(self) -> int:
        return self.codebook_size.bit_length() - 1


@dataclass
class LFQConfig(BinaryConfig):
    """Lookup-free quantiser, at the temperature of Open-MAGVIT2."""

    quantizer: Literal["lfq"] = "lfq"
    temperature: Annotated[float, Range(1e-4)] = 0.01


@dataclass
class BSQConfig(BinaryConfig):
    """Binary spherical quantiser, with the published groups of 9 bits."""

    quantizer: Literal["bsq"] = "bsq"
    group_bits: Annotated[int, Range(1, MAX_BITS)] = 9


class LFQ(Quantizer):
    """Codes are the corners of the cube: every dimension is `side` or -`side`."""

    side = 1.0

    def __init__(self, config: BinaryConfig):
        super().__init__()
        self.config = config
        self.codebook_size, self.dim = config.codebook_size, config.codebook_dim

    def placed(self, latents: Tensor) -> Tensor:
        """Latents (N, C) where they are compared with codes."""
        return latents

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        return ((latents > 0).long() << torch.arange(self.dim, device=latents.device)).sum(1)

    def decode(self, codes: Tensor) -> Tensor:
        bits = (codes[:, None] >> torch.arange(self.dim, device=codes.device)) & 1
        return (bits * 2 - 1).float() * self.side

    def forward(self, latents: Tensor) -> Quantized:
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes, z, config = self.encode(latents), self.placed(latents), self.config
            chosen = self.decode(codes)
            commitment = F.mse_loss(z, chosen)
            logits = z * (4 * self.side / config.temperature)
            each, mean = sample_entropy(logits), mean_entropy(logits, config.group_bits)
        entropy = each - config.diversity_weight * mean
        loss = config.commitment_weight * commitment + config.entropy_weight * entropy
        parts = {"commitment": commitment, "sample_entropy": each, "mean_entropy": mean}
        return Quantized(chosen + (z - z.detach()), codes, loss, parts)


class BSQ(LFQ):
    """The same on the unit sphere: latents are put at length 1, where codes are. Latents of 0 stay there."""

    def __init__(self, config: BinaryConfig):
        super().__init__(config)
        self.side = self.dim**-0.5

    def placed(self, latents: Tensor) -> Tensor:
        return F.normalize(latents, dim=1)


def sample_entropy(logits: Tensor) -> Tensor:
    """Mean over latents of the entropy of their bits together, in nats.

    Args:
        logits: (N, C) float32, of each bit being 1.
    """
    size = logits.abs()  # the entropy is even; so written, no large numbers cancel
    return (F.softplus(-size) + size * torch.sigmoid(-size)).sum(1).mean()


def mean_entropy(logits: Tensor, group_bits: int) -> Tensor:
    """Entropy of the mean over latents of the distribution of their bits, in nats, summed over groups of bits.

    Args:
        logits: (N, C) float32, of each bit being 1.
    """
    total = logits.new_zeros(())
    for group in logits.split(group_bits, dim=1):
        rows = max(1, MEAN_CHUNK >> (group.shape[1] + 1) // 2)
        summed = logits.new_zeros(())
        for part in group.split(rows):  # made again for the gradient, so that none is kept
            summed = summed + checkpoint(_summed, part, use_reentrant=False, preserve_rng_state=False)
        mean = summed / len(logits)
        total = total - (mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()
    return total


def _summed(logits: Tensor) -> Tensor:
    """Logits (N, b) -> the sum over latents of the distributions of their codes, (2^(b - b // 2), 2^(b // 2))."""
    low, high = (_distribution(half) for half in logits.tensor_split([logits.shape[1] // 2], dim=1))
    return high.t() @ low


def _distribution(logits: Tensor) -> Tensor:
    """Logits (N, b) of bits -> probabilities (N, 2^b) of the codes they make, the first bit the lowest."""
    made = logits.new_ones(len(logits), 1)
    for i in range(logits.shape[1]):
        bit = logits[:, i : i + 1]
        made = torch.cat([made * torch.sigmoid(-bit), made * torch.sigmoid(bit)], 1)
    return made
