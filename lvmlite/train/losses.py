"""Losses of the tokenizer, as functions of pictures and logits.

In: reconstructions and pictures, (B, 3, H, W) in [0, 1]; logits of a discriminator. Out: scalars.

Papers: LPIPS (arXiv 1801.03924); the hinge loss (Geometric GAN, arXiv 1705.02894); the adaptive weight of Taming
Transformers (arXiv 2012.09841), section 3.1; LeCam (arXiv 2104.03310).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.recipe import Range

GanLoss = Literal["hinge", "non-saturating"]
MAX_ADAPTIVE = 1e4


@dataclass
class ReconstructionConfig:
    """Weights of what makes a reconstruction a bad one.

    Attributes:
        l1, l2: of the absolute (edges stay sharp) and squared (flat colours stay true) error per pixel and channel.
        lpips: of the perceptual distance; lpips_net: the net it is measured in.
    """

    l1: Annotated[float, Range(0)] = 1.0
    l2: Annotated[float, Range(0)] = 1.0
    lpips: Annotated[float, Range(0)] = 0.0
    lpips_net: Literal["vgg", "alex"] = "vgg"

    def __post_init__(self) -> None:
        if self.l1 + self.l2 + self.lpips <= 0:
            raise ValueError("l1, l2 and lpips are all 0: nothing would be learned")


def open_perceptual(config: ReconstructionConfig, device: torch.device) -> nn.Module | None:
    """The net of the perceptual distance, if it has a weight: (x, y in [0, 1]) -> (B,).

    Raises:
        ValueError: its weights are not here.
    """
    if not config.lpips:
        return None
    from lvmlite.perception.lpips import open_lpips

    net: nn.Module = open_lpips(config.lpips_net, device)
    return net.requires_grad_(False)


def reconstruction_loss(
    config: ReconstructionConfig, output: Tensor, target: Tensor, perceptual: nn.Module | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted loss, and its parts to log."""
    l1, l2 = F.l1_loss(output, target), F.mse_loss(output, target)
    loss, parts = config.l1 * l1 + config.l2 * l2, {"l1": l1, "l2": l2}
    if perceptual is not None:
        parts["lpips"] = perceptual(output, target).float().mean()
        loss = loss + config.lpips * parts["lpips"]
    return loss, parts


def generator_loss(kind: GanLoss, fake: Tensor) -> Tensor:
    """What the tokenizer is told by the logits of its reconstructions."""
    return -fake.mean() if kind == "hinge" else F.softplus(-fake).mean()


def discriminator_loss(kind: GanLoss, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator is told by its logits of pictures and reconstructions."""
    if kind == "hinge":
        return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def lecam(real: Tensor, fake: Tensor, average_real: Tensor, average_fake: Tensor) -> Tensor:
    """LeCam's regulariser: logits of pictures stay near the average of those of reconstructions, and the reverse.

    One-sided, as its authors compute it: only a gap that grows costs. Averages of 0 keep logits near 0.
    """
    return F.relu(real - average_fake).square().mean() + F.relu(average_real - fake).square().mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor) -> Tensor:
    """Taming's weight of the adversarial loss: both losses pull equally hard at the decoder's last layer.

    Args:
        reconstruction, adversarial: gradients of the losses with respect to that layer, of the whole batch.
    """
    return (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0, MAX_ADAPTIVE).detach()
