"""The net of the VQGAN: residual blocks, attention, resampling; an encoder and a decoder.

In: feature maps (B, C, H, W), channels last in memory. Out: the same.

Paper: Taming Transformers (arXiv 2012.09841). Parameter names are those of taming-transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.tokenizers import winograd

if TYPE_CHECKING:
    from lvmlite.tokenizers.vqgan import VQGANConfig


def norm_groups(channels: int) -> int:
    """32 groups as published; narrow levels take groups of at least 4 channels."""
    return min(32, max(1, channels // 4))


class Norm(nn.GroupNorm):
    """Group norm in float32: on a CPU, PyTorch's bf16 kernel for channels-last maps is 5 to 10 times slower."""

    def __init__(self, channels: int):
        super().__init__(norm_groups(channels), channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps).to(x.dtype)


class Conv3x3(nn.Conv2d):
    """Stride 1, padding 1. Without gradient, in float32 on a CPU, wide layers over large maps take `winograd`.

    Whether they do depends on a picture alone, not on how many come with it. The transformed weight is not kept: four
    times the weights is too much, and an optimiser may change a weight without a trace.
    """

    def __init__(self, n_in: int, n_out: int, bias: bool = True):
        super().__init__(n_in, n_out, 3, padding=1, bias=bias)

    def is_fast(self, x: Tensor) -> bool:
        return (
            not torch.is_grad_enabled()
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and min(self.in_channels, self.out_channels) >= 64
            and x.shape[2] * x.shape[3] >= 256
        )

    def fast(self, x: Tensor, norm: tuple[Tensor, Tensor] | None = None) -> Tensor:
        return winograd.convolve(x, winograd.transform(self.weight), self.bias, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.fast(x) if self.is_fast(x) else super().forward(x)


def norm_silu_conv(norm: Norm, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(silu(norm(x))), as one where that is faster."""
    if isinstance(conv, Conv3x3) and conv.is_fast(x):
        return conv.fast(x, winograd.group_affine(x, norm.num_groups, norm.weight, norm.bias, norm.eps))
    return conv(F.silu(norm(x), inplace=not torch.is_grad_enabled()))


class ResBlock(nn.Module):
    """In MaskGIT's variant convolutions have no bias, and the shortcut of a block that changes its width reads the
    block's own output: odd, but what its published weights were trained with."""

    def __init__(self, n_in: int, n_out: int, maskgit: bool = False):
        super().__init__()
        self.norm1 = Norm(n_in)
        self.conv1 = Conv3x3(n_in, n_out, bias=not maskgit)
        self.norm2 = Norm(n_out)
        self.conv2 = Conv3x3(n_out, n_out, bias=not maskgit)
        if n_in != n_out:
            self.nin_shortcut = nn.Conv2d(n_out if maskgit else n_in, n_out, 1, bias=not maskgit)
        self.same, self.maskgit = n_in == n_out, maskgit

    def forward(self, x: Tensor) -> Tensor:
        h = norm_silu_conv(self.norm1, self.conv1, x)
        h = norm_silu_conv(self.norm2, self.conv2, h)
        shortcut = x if self.same else self.nin_shortcut(h if self.maskgit else x)
        return shortcut + h if torch.is_grad_enabled() else h.add_(shortcut)


class SelfAttention(nn.Module):
    """One head over all positions of a feature map."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = Norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj_out(y.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class AverageDownsample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks of one resolution, attention after each where asked for, then the resampling, if any."""

    def __init__(self, n_in: int, n_out: int, n_blocks: int, attention: bool, maskgit: bool):
        super().__init__()
        self.block = nn.ModuleList(ResBlock(n_in if i == 0 else n_out, n_out, maskgit) for i in range(n_blocks))
        self.attn = nn.ModuleList(SelfAttention(n_out) for _ in range(n_blocks if attention else 0))
        self.downsample: Downsample | AverageDownsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        for resample in (self.downsample, self.upsample):
            x = x if resample is None else resample(x)
        return x


class Middle(nn.Module):
    def __init__(self, channels: int, attention: bool, maskgit: bool):
        super().__init__()
        self.block_1 = ResBlock(channels, channels, maskgit)
        if attention:
            self.attn_1 = SelfAttention(channels)
        self.block_2 = ResBlock(channels, channels, maskgit)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        x = self.block_1(x)
        return self.block_2(self.attn_1(x) if self.attention else x)


class Encoder(nn.Module):
    def __init__(self, config: VQGANConfig, image_size: int):
        super().__init__()
        widths, maskgit = [config.channels * m for m in config.multipliers], config.variant == "maskgit"
        self.conv_in = nn.Conv2d(3 * config.patch**2, config.channels, 3, padding=1, bias=not maskgit)
        self.down = nn.ModuleList()
        n_in, side = config.channels, image_size // config.patch
        for i, width in enumerate(widths):
            level = Level(n_in, width, config.n_res_blocks, side in config.attention, maskgit)
            if i < len(widths) - 1:
                level.downsample = AverageDownsample() if maskgit else Downsample(width)
                side //= 2
            self.down.append(level)
            n_in = width
        self.mid = Middle(n_in, config.attends_in_the_middle(side), maskgit)
        self.norm_out = Norm(n_in)
        kernel = 1 if maskgit else 3
        self.conv_out = nn.Conv2d(n_in, config.z_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return norm_silu_conv(self.norm_out, self.conv_out, self.mid(x))


class Decoder(nn.Module):
    """`up` is indexed by level as published: the last level runs first."""

    def __init__(self, config: VQGANConfig, image_size: int):
        super().__init__()
        widths, maskgit = [config.channels * m for m in config.multipliers], config.variant == "maskgit"
        side = image_size // config.f
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], config.attends_in_the_middle(side), maskgit)
        levels: list[Level] = []
        n_in = widths[-1]
        for i in reversed(range(len(widths))):
            level = Level(n_in, widths[i], config.n_decoder_res_blocks, side in config.attention, maskgit)
            if i > 0:
                level.upsample = Upsample(widths[i])
                side *= 2
            levels.insert(0, level)
            n_in = widths[i]
        self.up = nn.ModuleList(levels)
        self.norm_out = Norm(n_in)
        self.conv_out = nn.Conv2d(n_in, 3 * config.patch**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return norm_silu_conv(self.norm_out, self.conv_out, x)
