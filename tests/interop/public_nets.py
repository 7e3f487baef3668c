"""Forward passes of the published tokenizers, written over their public names: what an import is compared with.

A weight is drawn when its name is first asked for, so a pass is also the list of what a checkpoint holds. All have
group norms of 32 groups, eps 1e-6, and SiLU; attention is one head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class PublicNet:
    """Taming-transformers' names, which are the released LVM tokenizer's too.

    Attributes:
        attends: levels with attention; middle: between the two middle blocks.
        symmetric: the net sees pixels in [-1, 1].
    """

    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attends: tuple[int, ...] = ()
    middle: bool = False
    symmetric: bool = False
    codes: int = 160
    z: int = 12
    dim: int = 8
    channels: int = 128
    weights: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            latents = self.latents(pictures(8, seed=7))
        rows = latents[torch.randperm(len(latents), generator=self.generator)[: self.codes]]
        self.weights["quantize.embedding.weight"] = rows + 0.1 * rows.std() * self.noise(*rows.shape)
        self.pixels(torch.zeros(64, dtype=torch.long))

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def weight(self, name: str, *shape: int, scale: float, around: float = 0.0) -> Tensor:
        if name not in self.weights:
            self.weights[name] = around + scale * self.noise(*shape)
        return self.weights[name]

    # --- layers

    def conv(self, name: str, x: Tensor, n: int, kernel: int = 3, bias: bool = True, stride: int = 1) -> Tensor:
        weight = self.weight(f"{name}.weight", n, x.shape[1], kernel, kernel, scale=(x.shape[1] * kernel**2) ** -0.5)
        added = self.weight(f"{name}.bias", n, scale=0.1) if bias else None
        if stride == 2:
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, added, stride=2)
        return F.conv2d(x, weight, added, padding=kernel // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight = self.weight(f"{name}.weight", x.shape[1], scale=0.1, around=1.0)
        return F.group_norm(x, 32, weight, self.weight(f"{name}.bias", x.shape[1], scale=0.1), eps=1e-6)

    def block(self, name: str, x: Tensor, n: int) -> Tensor:
        h = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)), n)
        h = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", h)), n)
        return h + (x if x.shape[1] == n else self.conv(f"{name}.nin_shortcut", x, n, 1))

    def attention(self, name: str, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        h = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{part}", h, c, 1).reshape(b, c, -1) for part in "qkv")
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / c**0.5, 2)
        y = torch.einsum("bcj,bij->bci", v, weights).reshape(b, c, height, width)
        return x + self.conv(f"{name}.proj_out", y, c, 1)

    def down(self, name: str, x: Tensor) -> Tensor:
        return self.conv(f"{name}.downsample.conv", x, x.shape[1], stride=2)

    def up(self, name: str, x: Tensor) -> Tensor:
        return self.conv(f"{name}.upsample.conv", F.interpolate(x, scale_factor=2.0), x.shape[1])

    def mid(self, side: str, x: Tensor) -> Tensor:
        x = self.block(f"{side}.mid.block_1", x, x.shape[1])
        x = self.attention(f"{side}.mid.attn_1", x) if self.middle else x
        return self.block(f"{side}.mid.block_2", x, x.shape[1])

    # --- names that differ between the formats

    def level(self, side: str, i: int) -> str:
        return f"{side}.{'down' if side == 'encoder' else 'up'}.{i}"

    blocks_are = "block"
    decoder_more = 1  # blocks a level of the decoder has more than the encoder's

    # --- passes

    def run_level(self, side: str, i: int, x: Tensor) -> Tensor:
        name = self.level(side, i)
        for j in range(self.blocks + (self.decoder_more if side == "decoder" else 0)):
            x = self.block(f"{name}.{self.blocks_are}.{j}", x, self.channels * self.multipliers[i])
            x = self.attention(f"{name}.attn.{j}", x) if i in self.attends else x
        return x

    def encoder(self, x: Tensor) -> Tensor:
        x = self.conv("encoder.conv_in", x, self.channels)
        for i in range(len(self.multipliers)):
            x = self.run_level("encoder", i, x)
            x = self.down(self.level("encoder", i), x) if i < len(self.multipliers) - 1 else x
        x = F.silu(self.norm("encoder.norm_out", self.mid("encoder", x)))
        return self.conv("quant_conv", self.conv("encoder.conv_out", x, self.z), self.dim, 1)

    def decoder(self, z: Tensor) -> Tensor:
        x = self.conv(
            "decoder.conv_in", self.conv("post_quant_conv", z, self.z, 1), self.channels * self.multipliers[-1]
        )
        x = self.mid("decoder", x)
        for i in reversed(range(len(self.multipliers))):
            x = self.run_level("decoder", i, x)
            x = self.up(self.level("decoder", i), x) if i else x
        return self.conv("decoder.conv_out", F.silu(self.norm("decoder.norm_out", x)), 3)

    def latents(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B*S, C)."""
        z = self.encoder(images * 2 - 1 if self.symmetric else images)
        return z.permute(0, 2, 3, 1).flatten(0, 2)

    def book(self) -> Tensor:
        return self.weights["quantize.embedding.weight"]

    def compared(self, latents: Tensor) -> Tensor:
        return latents

    def distances(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B*S, K)."""
        return torch.cdist(
            self.compared(self.latents(images)), self.book(), compute_mode="donot_use_mm_for_euclid_dist"
        )

    def pixels(self, codes: Tensor, side: int = 8) -> Tensor:
        """(B*S,) -> (B, 3, H, W), in [0, 1] but for over- and undershoot."""
        z = F.embedding(codes, self.book()).reshape(-1, side, side, self.dim).permute(0, 3, 1, 2)
        x = self.decoder(z)
        return x / 2 + 0.5 if self.symmetric else x


class MaskGit(PublicNet):
    """No biases in blocks, average pooling, no convolutions around the codes; the shortcut reads the block's output."""

    decoder_more = 0

    def block(self, name: str, x: Tensor, n: int) -> Tensor:
        h = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)), n, bias=False)
        h = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", h)), n, bias=False)
        return h + (x if x.shape[1] == n else self.conv(f"{name}.nin_shortcut", h, n, 1, bias=False))

    def down(self, name: str, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    def up(self, name: str, x: Tensor) -> Tensor:
        return self.conv(f"{name}.upsample_conv", F.interpolate(x, scale_factor=2.0), x.shape[1])

    def mid(self, side: str, x: Tensor) -> Tensor:
        for i in range(2):
            x = self.block(f"{side}.mid.{i}", x, x.shape[1])
        return x

    def conv(self, name: str, x: Tensor, n: int, kernel: int = 3, bias: bool = True, stride: int = 1) -> Tensor:
        if name in ("quant_conv", "post_quant_conv"):
            return x
        kernel = 1 if name == "encoder.conv_out" else kernel
        return super().conv(name, x, n, kernel, bias and name != "encoder.conv_in", stride)


class LlamaGen(PublicNet):
    """Levels are `conv_blocks`, counted as they run; the middle is `mid.0/1/2`; codes are compared at length 1."""

    blocks_are = "res"

    def level(self, side: str, i: int) -> str:
        return f"{side}.conv_blocks.{i if side == 'encoder' else len(self.multipliers) - 1 - i}"

    def mid(self, side: str, x: Tensor) -> Tensor:
        x = self.attention(f"{side}.mid.1", self.block(f"{side}.mid.0", x, x.shape[1]))
        return self.block(f"{side}.mid.2", x, x.shape[1])

    def book(self) -> Tensor:
        return F.normalize(super().book(), dim=1)

    def compared(self, latents: Tensor) -> Tensor:
        return F.normalize(latents, dim=1)


def pictures(n: int, seed: int, size: int = 16) -> Tensor:
    """(n, 3, size, size) in [0, 1]: coarse patches under noise, so that no two places look alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse: Any = torch.rand(n, 3, size // 4, size // 4, generator=generator)
    return 0.6 * F.interpolate(coarse, size=size) + 0.4 * torch.rand(n, 3, size, size, generator=generator)
