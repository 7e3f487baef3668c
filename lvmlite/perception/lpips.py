"""LPIPS, how different two pictures look: weighted distances between features of a trained net.

In: two batches of pictures (B, 3, H, W) float in [0, 1]. Out: (B,) distances, 0 for equal pictures. Version 0.1 of
Zhang, Isola, Efros, Shechtman and Wang 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
equation 1. With "alex" it is the metric that papers report, with "vgg" the loss that tokenizers train on.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from lvmlite import weights
from lvmlite.perception.alexnet import AlexNet
from lvmlite.perception.vgg import VGG16

NETS: dict[str, type[VGG16] | type[AlexNet]] = {"vgg": VGG16, "alex": AlexNet}
SHIFT = (-0.030, -0.088, -0.188)  # ImageNet's mean and deviation of colours, for pictures in [-1, 1]
SCALE = (0.458, 0.448, 0.450)
EPS = 1e-10


class LPIPS(nn.Module):
    """The distance. No parameter asks for a gradient, so nothing is kept for the pictures that need none."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "vgg") -> None:
        super().__init__()
        self.backbone = NETS[net]()
        self.heads = nn.ModuleDict(
            {f"lin{i}": nn.Conv2d(width, 1, 1, bias=False) for i, width in enumerate(self.backbone.channels)}
        )
        # on the CPU, also where the nets are made without memory of their own, as in open_lpips
        self.register_buffer("shift", torch.tensor(SHIFT, device="cpu")[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE, device="cpu")[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x, y: (B, 3, H, W) float in [0, 1] -> (B,) float32 >= 0.

        Raises:
            ValueError: the two differ in shape, or are smaller than the net can read.
        """
        least = self.backbone.min_size
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"LPIPS compares two batches (B, 3, H, W), got {tuple(x.shape)} and {tuple(y.shape)}")
        if min(x.shape[2:]) < least:
            net = type(self.backbone).__name__
            raise ValueError(f"LPIPS by {net} needs pictures of {least} x {least} or more, got {tuple(x.shape[2:])}")
        distances = torch.zeros(len(x), device=x.device)
        for a, b, head in zip(self._maps(x), self._maps(y), self.heads.values()):
            # a product and a sum in place of the 1x1 convolution, which would keep its input for the backward pass
            weight = cast(nn.Conv2d, head).weight.float()
            distances = distances + ((unit(a) - unit(b)).square() * weight).sum(1).mean((1, 2))
        return distances

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.backbone((2 * images - 1 - self.shift) / self.scale)
        return maps


def unit(features: Tensor) -> Tensor:
    """(B, C, h, w) -> the same with the channels of each place scaled to length 1; in float32.

    The gradient is 0, not nan, where all channels are 0.
    """
    features = features.float()
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + EPS)


def open_lpips(net: Literal["vgg", "alex"] = "vgg", device: torch.device | str = "cpu") -> LPIPS:
    """The published distance.

    Raises:
        ValueError: there is no such net; its weights are not here, with how to get them.
    """
    if net not in NETS:
        raise ValueError(f"LPIPS has the nets {' and '.join(NETS)}, not {net}")
    state = weights.load(f"lpips-{net}")
    with torch.device("meta"):  # no numbers are drawn for what is loaded
        lpips = LPIPS(net)
    lpips.load_state_dict(
        {f"{'heads' if key.startswith('lin') else 'backbone'}.{key}": tensor for key, tensor in state.items()},
        assign=True,
    )
    lpips.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lpips.to(device)
