"""The convolutional VQGAN, of configurable width, depth and f.

In: images (B, 3, H, W) float in [0, 1]. Out: codes (B, S); in training, reconstructions and the commitment loss.

Paper: Taming Transformers (arXiv 2012.09841). Parameter names are those of taming-transformers and of the released
LVM tokenizer (`encoder.down.0.block.0.conv1`, `quantize.embedding`, ...), so published weights need no renaming.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.recipe import Range, one_of, to_dict
from lvmlite.tokenizers.base import Tokenizer
from lvmlite.tokenizers.convnet import Decoder, Encoder, norm_groups
from lvmlite.tokenizers.quantizers import build_quantizer, quantizer_configs
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig


@dataclass
class VQGANConfig:
    """Defaults are the released LVM tokenizer: f = 16, 8192 codes of dimension 64, no attention, 146 M parameters.

    Attributes:
        channels: width of the first level; multipliers: width of each level relative to it, f = patch * 2^(levels - 1).
        n_res_blocks, n_decoder_res_blocks: residual blocks a level.
        attention: sides of the feature maps that get self-attention, e.g. (16,); middle_attention: between the two
            middle blocks; None follows `attention`.
        variant: "taming" is what LVM, LlamaGen and diffusers have too; "maskgit" has no biases in its blocks,
            average pooling and no 1 x 1 convolutions around the quantiser (`z_channels` is the width of a code).
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
    middle_attention: bool | None = None
    variant: Literal["taming", "maskgit"] = "taming"
    z_channels: Annotated[int, Range(1)] = 64
    patch: Annotated[int, Range(1)] = 1
    pixel_range: Literal["unit", "symmetric"] = "unit"
    quantizer: Any = field(default_factory=NearestCodeConfig, metadata=one_of("quantizer", quantizer_configs))

    def __post_init__(self) -> None:
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError("multipliers must hold at least one number >= 1")
        for width in (self.channels * m for m in (1, *self.multipliers)):
            if width % norm_groups(width):
                raise ValueError(f"a level of {width} channels cannot be split into {norm_groups(width)} groups")
        if self.variant == "maskgit" and self.z_channels != self.quantizer.codebook_dim:
            raise ValueError(
                f"variant maskgit has nothing between net and quantiser: z_channels {self.z_channels} must be the "
                f"width of a code, {self.quantizer.codebook_dim}"
            )

    @property
    def f(self) -> int:
        """Pixels per code along a side."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))

    def attends_in_the_middle(self, side: int) -> bool:
        return side in self.attention if self.middle_attention is None else self.middle_attention


class Reconstruction(NamedTuple):
    images: Tensor  # (B, 3, H, W) in [0, 1] up to over- and undershoot
    latents: Tensor  # (B*S, C) before quantisation, float32, detached
    codes: Tensor  # (B*S,)
    loss: Tensor  # scalar: the quantiser's own, weighted
    parts: dict[str, Tensor]  # of that loss, to log


class VQGAN(Tokenizer):
    """Args: config; image_size: H = W.

    Raises:
        ValueError: image_size is not a multiple of f, or attention asks for a side that no feature map has.
    """

    kind: ClassVar[str] = "vqgan"

    def __init__(self, config: VQGANConfig, image_size: int):
        super().__init__()
        if image_size < config.f or image_size % config.f:
            near = sorted({max(1, image_size // config.f) * config.f, -(-image_size // config.f) * config.f} - {0})
            raise ValueError(
                f"picture size {image_size} is not a multiple of f = {config.f}; use {' or '.join(map(str, near))}"
            )
        sides = [image_size // config.patch // 2**i for i in range(len(config.multipliers))]
        if lost := set(config.attention) - set(sides):
            raise ValueError(f"no feature map has a side of {min(lost)} for attention; the sides are {sides}")
        self.config = config
        self.image_size = image_size
        self.grid = (image_size // config.f, image_size // config.f)
        self.quantize = build_quantizer(config.quantizer)
        self.codebook_size = self.quantize.codebook_size
        self.encoder = Encoder(config, image_size)
        around = config.variant == "taming"
        self.quant_conv = nn.Conv2d(config.z_channels, self.quantize.dim, 1) if around else nn.Identity()
        self.post_quant_conv = nn.Conv2d(self.quantize.dim, config.z_channels, 1) if around else nn.Identity()
        self.decoder = Decoder(config, image_size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def latents(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B*S, C) float32, rows in raster order."""
        images = images.float()
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
            return Reconstruction(self.pixels(latents), latents.detach(), none.long().expand(0), none, {})
        quantized, codes, loss, parts = self.quantize(latents)
        return Reconstruction(self.pixels(quantized), latents.detach(), codes, loss, parts)

    def encode(self, images: Tensor) -> Tensor:
        self.check_images(images)
        if not len(images):
            return torch.zeros((0, self.n_tokens), dtype=torch.long, device=images.device)
        with torch.no_grad():
            latents = self.latents(images)
            with torch.autocast(latents.device.type, enabled=False):
                return self.quantize.encode(latents).view(len(images), self.n_tokens)

    def decode(self, tokens: Tensor) -> Tensor:
        self.check_tokens(tokens)
        if not len(tokens):
            return torch.zeros((0, 3, self.image_size, self.image_size), device=tokens.device)
        with torch.no_grad():
            return self.pixels(self.quantize.decode(tokens.flatten())).clamp(0, 1)

    def settings(self) -> dict[str, Any]:
        return {"image_size": self.image_size, **to_dict(self.config)}

    def code_settings(self) -> dict[str, Any]:
        """What names and shapes of tensors do not tell: the pixel range, the variant, and the quantiser's rule."""
        config = self.config
        rule = {k: v for k, v in to_dict(config.quantizer).items() if k in self.quantize.deciding}
        return {
            "tokenizer": self.kind,
            "image_size": self.image_size,
            "pixel_range": config.pixel_range,
            "variant": config.variant,
            "quantizer": rule,
        }

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
        self.quantize.init_weights(generator)
        return self
