"""Discriminators: nets that tell pictures from reconstructions.

In: images (B, 3, H, W) float in [0, 1], up to over- and undershoot. Out: logits (B, N) float32, large for pictures:
one for each of N patches (PatchGAN), or one for the whole picture, N = 1 (StyleGAN). A new one is a class and a line
in DISCRIMINATORS.

No net here sees its batch: a picture's logits do not depend on the pictures beside it. Batch norm, as published for
PatchGAN, would make the loss depend on how a batch is split into micro-batches and over ranks, and would compare
pictures with reconstructions of one batch only; group norm takes its place, as in MaskGIT. StyleGAN's minibatch
standard deviation, which is for nets that make pictures from noise and may all make the same, is left out likewise.

Papers: PatchGAN, Isola et al. 2017 (arXiv 1611.07004); StyleGAN2, Karras et al. 2020 (arXiv 1912.04958).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.recipe import Range
from lvmlite.tokenizers.convnet import Norm

MAX_WIDTH = 512


@dataclass
class PatchGANConfig:
    """channels: of the first layer, doubled by each of `n_layers` halvings, at most eight times as many."""

    discriminator: Literal["patchgan"] = "patchgan"
    channels: Annotated[int, Range(8)] = 64
    n_layers: Annotated[int, Range(1)] = 3


@dataclass
class StyleGANConfig:
    """channels: at full resolution, doubled by each halving down to 4 x 4, at most 512."""

    discriminator: Literal["stylegan"] = "stylegan"
    channels: Annotated[int, Range(8)] = 64


class PatchGAN(nn.Module):
    """Convolutions of 4 x 4, `n_layers` of stride 2 and two of stride 1: a logit sees 70 x 70 pixels for 3 layers.

    Raises:
        ValueError: the pictures are too small for the layers.
    """

    def __init__(self, config: PatchGANConfig, image_size: int):
        super().__init__()
        need = 3 * 2**config.n_layers
        if image_size < need:
            raise ValueError(
                f"a PatchGAN of n_layers {config.n_layers} needs pictures of {need} px, these have {image_size}; "
                f"take fewer layers"
            )
        widths = [config.channels * min(2**i, 8) for i in range(config.n_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            stride = 2 if i < config.n_layers - 1 else 1
            conv = nn.Conv2d(n_in, n_out, 4, stride=stride, padding=1, bias=False)
            layers += [conv, Norm(n_out), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        x = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
        return self.main(x).flatten(1).float()

    def init_weights(self, generator: torch.Generator) -> None:
        """Convolutions normal of deviation 0.02, as published; biases 0."""
        for layer in self.main:
            if isinstance(layer, nn.Conv2d):
                layer.weight.data.copy_(0.02 * torch.randn(layer.weight.shape, generator=generator))
                if layer.bias is not None:
                    layer.bias.data.zero_()


def blur(x: Tensor, stride: int = 1) -> Tensor:
    """The binomial filter (1, 2, 1) / 4 along both sides, so that skipping pixels afterwards does not alias: two
    averages of neighbours."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2, stride=1), 2, stride=stride)


class HalvingBlock(nn.Module):
    """(B, n_in, H, W) -> (B, n_out, H/2, W/2), residual; the sum is scaled to keep its variance."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_in, 3, padding=1)
        self.conv2 = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv1(x), 0.2)
        h = F.leaky_relu(self.conv2(blur(h)), 0.2)
        return (self.shortcut(blur(x, stride=2)) + h) / math.sqrt(2)


class StyleGAN(nn.Module):
    """Residual blocks that blur and halve until the map is at most 4 pixels wide, then two linear layers."""

    def __init__(self, config: StyleGANConfig, image_size: int):
        super().__init__()
        side, width = image_size, config.channels
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList()
        while side > 4:
            wider = min(2 * width, max(MAX_WIDTH, config.channels))
            self.blocks.append(HalvingBlock(width, wider))
            side, width = (side + 1) // 2, wider
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)
        self.linear = nn.Linear(width * side * side, width)
        self.logit = nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
        x = F.leaky_relu(self.conv_in(x), 0.2)
        for block in self.blocks:
            x = block(x)
        x = F.leaky_relu(self.conv_out(x), 0.2)
        x = F.leaky_relu(self.linear(x.flatten(1)), 0.2)
        return self.logit(x).float()

    def init_weights(self, generator: torch.Generator) -> None:
        """Normal of variance 2 / ((1 + 0.2^2) fan in), which keeps the variance of a leaky ReLU; biases 0."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                deviation = math.sqrt(2 / (1 + 0.2**2) / layer.weight[0].numel())
                layer.weight.data.copy_(deviation * torch.randn(layer.weight.shape, generator=generator))
                if layer.bias is not None:
                    layer.bias.data.zero_()


DISCRIMINATORS: dict[str, tuple[type[Any], type[Any]]] = {
    "patchgan": (PatchGANConfig, PatchGAN),
    "stylegan": (StyleGANConfig, StyleGAN),
}


def discriminator_configs() -> dict[str, type[Any]]:
    """The table that recipes are read with."""
    return {name: config for name, (config, _) in DISCRIMINATORS.items()}


def build_discriminator(config: Any, image_size: int, generator: torch.Generator) -> nn.Module:
    """A fresh discriminator of a config of DISCRIMINATORS, its weights drawn from a generator on the CPU."""
    _, discriminator = DISCRIMINATORS[config.discriminator]
    made: Any = discriminator(config, image_size)
    made.init_weights(generator)
    net: nn.Module = made.to(memory_format=torch.channels_last)
    return net
