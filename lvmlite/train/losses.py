"""Losses of the tokenizer. Perceptual and adversarial ones join here.

In: reconstructions and pictures, (B, 3, H, W) in [0, 1]. Out: scalars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from lvmlite.recipe import Range


@dataclass
class ReconstructionConfig:
    """Weights of the absolute (edges stay sharp) and squared (flat colours stay true) error per pixel and channel."""

    l1: Annotated[float, Range(0)] = 1.0
    l2: Annotated[float, Range(0)] = 1.0

    def __post_init__(self) -> None:
        if self.l1 + self.l2 <= 0:
            raise ValueError("l1 and l2 are both 0: nothing would be learned")


def reconstruction_loss(
    config: ReconstructionConfig, output: Tensor, target: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted loss, and its parts to log."""
    l1, l2 = F.l1_loss(output, target), F.mse_loss(output, target)
    return config.l1 * l1 + config.l2 * l2, {"l1": l1, "l2": l2}
