"""The convolutional VQGAN, of configurable width, depth and f.

In: images (B, 3, H, W) float in [0, 1]. Out: codes (B, S); in training, reconstructions and the commitment loss.

Paper: Taming Transformers (arXiv 2012.09841). Parameter names are those of taming-transformers and of the released
LVM tokenizer (`encoder.down.0.block.0.conv1`, `quantize.embedding`, ...), so published weights need no renaming.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.recipe import Range
from lvmlite.tokenizers.base import Tokenizer
from lvmlite.tokenizers.quantizers import NearestCode, NearestCodeConfig


@dataclass
class VQGANConfig:
    """Defaults are the released LVM tokenizer: f = 16, 8192 codes of dimension 64, no attention, 146 M parameters.

    Attributes:
        channels: width of the first level; multipliers: width of each level relative to it, f = patch * 2^(levels - 1).
        n_res_blocks, n_decoder_res_blocks: residual blocks a level.
        attention: sides of the feature maps that get self-attention, e.g. (16,).
        z_channels: width between net and quantiser.
        patch: pixels along a side folded into channels before the first convolution, unfolded after the last. The
            published nets have 1; more drops the full-resolution levels, which cost a small net the most on a CPU.
        pixel_range: what the net sees: "unit" is [0, 1], "symmetric" is [-1, 1].
    """

    tokenizer: Literal["vqgan"] = "vqgan"
    channels: Annotated[int, Range(8)] = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 4, 6)
    n_res_blocks: Annotated[int, Range(1)] = 2
    n_decoder_res_blocks: Annotated[int, Range(1)] = 3
    attention: tuple[int, ...] = ()
    z_channels: Annotated[int, Range(1)] = 64
    patch: Annotated[int, Range(1)] = 1
    pixel_range: Literal["unit", "symmetric"] = "unit"
    quantizer: NearestCodeConfig = field(default_factory=NearestCodeConfig)

    def __post_init__(self) -> None:
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError("multipliers must hold at least one number >= 1")
        for width in (self.channels * m for m in (1, *self.multipliers)):
            if width % norm_groups(width):
                raise ValueError(f"a level of {width} channels cannot be split into {norm_groups(width)} groups")

    @property
    def f(self) -> int:
        """Pixels per code along a side."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))


def norm_groups(channels: int) -> int:
    """32 groups as published; narrow levels take groups of at least 4 channels."""
    return min(32, max(1, channels // 4))


class Norm(nn.GroupNorm):
    """Group norm in float32: on a CPU, PyTorch's bf16 kernel for channels-last maps is 5 to 10 times slower."""

    def __init__(self, channels: int):
        super().__init__(norm_groups(channels), channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps).to(x.dtype)


class ResBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.norm1 = Norm(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.norm2 = Norm(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1)
        if n_in != n_out:
            self.nin_shortcut = nn.Conv2d(n_in, n_out, 1)
        self.same = n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.same else self.nin_shortcut(x)) + h


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


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks of one resolution, attention after each where asked for, then the resampling, if any."""

    def __init__(self, n_in: int, n_out: int, n_blocks: int, attention: bool):
        super().__init__()
        self.block = nn.ModuleList(ResBlock(n_in if i == 0 else n_out, n_out) for i in range(n_blocks))
        self.attn = nn.ModuleList(SelfAttention(n_out) for _ in range(n_blocks if attention else 0))
        self.downsample: Downsample | None = None
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
    def __init__(self, channels: int, attention: bool):
        super().__init__()
        self.block_1 = ResBlock(channels, channels)
        if attention:
            self.attn_1 = SelfAttention(channels)
        self.block_2 = ResBlock(channels, channels)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        x = self.block_1(x)
        return self.block_2(self.attn_1(x) if self.attention else x)


class Encoder(nn.Module):
    def __init__(self, config: VQGANConfig, image_size: int):
        super().__init__()
        widths = [config.channels * m for m in config.multipliers]
        self.conv_in = nn.Conv2d(3 * config.patch**2, config.channels, 3, padding=1)
        self.down = nn.ModuleList()
        n_in, side = config.channels, image_size // config.patch
        for i, width in enumerate(widths):
            level = Level(n_in, width, config.n_res_blocks, side in config.attention)
            if i < len(widths) - 1:
                level.downsample = Downsample(width)
                side //= 2
            self.down.append(level)
            n_in = width
        self.mid = Middle(n_in, side in config.attention)
        self.norm_out = Norm(n_in)
        self.conv_out = nn.Conv2d(n_in, config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """`up` is indexed by level as published: the last level runs first."""

    def __init__(self, config: VQGANConfig, image_size: int):
        super().__init__()
        widths = [config.channels * m for m in config.multipliers]
        side = image_size // config.f
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], side in config.attention)
        levels: list[Level] = []
        n_in = widths[-1]
        for i in reversed(range(len(widths))):
            level = Level(n_in, widths[i], config.n_decoder_res_blocks, side in config.attention)
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
        return self.conv_out(F.silu(self.norm_out(x)))


class Reconstruction(NamedTuple):
    images: Tensor  # (B, 3, H, W) in [0, 1] up to over- and undershoot
    latents: Tensor  # (B*S, C) before quantisation, float32, detached
    codes: Tensor  # (B*S,)
    loss: Tensor  # scalar: weighted commitment


class VQGAN(Tokenizer):
    """Args: config; image_size: H = W.

    Raises:
        ValueError: image_size is not a multiple of f, or attention asks for a side that no feature map has.
    """

    kind: ClassVar[str] = "vqgan"

    def __init__(self, config: VQGANConfig, image_size: int):
        super().__init__()
        if image_size < config.f or image_size % config.f:
            raise ValueError(f"picture size {image_size} is not a multiple of f = {config.f}")
        sides = [image_size // config.patch // 2**i for i in range(len(config.multipliers))]
        if lost := set(config.attention) - set(sides):
            raise ValueError(f"no feature map has a side of {min(lost)} for attention; the sides are {sides}")
        self.config = config
        self.image_size = image_size
        self.grid = (image_size // config.f, image_size // config.f)
        self.codebook_size = config.quantizer.codebook_size
        self.encoder = Encoder(config, image_size)
        self.quant_conv = nn.Conv2d(config.z_channels, config.quantizer.codebook_dim, 1)
        self.quantize = NearestCode(config.quantizer)
        self.post_quant_conv = nn.Conv2d(config.quantizer.codebook_dim, config.z_channels, 1)
        self.decoder = Decoder(config, image_size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def latents(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B*S, C) float32, rows in raster order."""
        x = images * 2 - 1 if self.config.pixel_range == "symmetric" else images
        x = F.pixel_unshuffle(x, self.config.patch).contiguous(memory_format=torch.channels_last)
        z = self.quant_conv(self.encoder(x))
        return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).float()

    def pixels(self, quantized: Tensor) -> Tensor:
        """(B*S, C) -> (B, 3, H, W), float32, not clipped."""
        rows, columns = self.grid
        z = quantized.view(-1, rows, columns, quantized.shape[1]).permute(0, 3, 1, 2)
        x = F.pixel_shuffle(self.decoder(self.post_quant_conv(z)), self.config.patch).float()
        return (x + 1) / 2 if self.config.pixel_range == "symmetric" else x

    def forward(self, images: Tensor, quantize: bool = True) -> Reconstruction:
        """Training's pass. Without `quantize` the latents go straight through, and there are no codes."""
        latents = self.latents(images)
        if not quantize:
            none = latents.new_zeros(())
            return Reconstruction(self.pixels(latents), latents.detach(), none.long().expand(0), none)
        quantized, codes, loss = self.quantize(latents)
        return Reconstruction(self.pixels(quantized), latents.detach(), codes, loss)

    def encode(self, images: Tensor) -> Tensor:
        self.check_images(images)
        with torch.no_grad():
            latents = self.latents(images)
            with torch.autocast(latents.device.type, enabled=False):
                return self.quantize.nearest(latents).view(len(images), self.n_tokens)

    def decode(self, tokens: Tensor) -> Tensor:
        self.check_tokens(tokens)
        with torch.no_grad():
            return self.pixels(self.quantize.embedding(tokens.flatten())).clamp(0, 1)

    def settings(self) -> dict[str, Any]:
        return {"image_size": self.image_size, **asdict(self.config)}

    def code_settings(self) -> dict[str, Any]:
        return {"tokenizer": self.kind, "image_size": self.image_size, "pixel_range": self.config.pixel_range}

    def code_state(self) -> dict[str, Tensor]:
        deciding = ("encoder.", "quant_conv.", "quantize.")
        return {k: v for k, v in self.state_dict().items() if k.startswith(deciding)}

    def init_weights(self, seed: int) -> VQGAN:
        """PyTorch's default for convolutions (uniform, 1 / sqrt(fan in)); codes uniform in 1 / K. Drawn from a seed."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = 1 / (module.weight[0].numel()) ** 0.5
                for parameter in (module.weight, module.bias):
                    if parameter is not None:
                        noise = torch.rand(parameter.shape, generator=generator) * 2 - 1
                        parameter.data.copy_(noise * bound)
        codes = self.quantize.embedding.weight
        codes.data.copy_((torch.rand(codes.shape, generator=generator) * 2 - 1) / len(codes))
        return self
