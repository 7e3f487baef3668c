"""The VQGAN: published geometry and names, shapes, codes that do not depend on the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lvmlite.tokenizers.convnet import Norm, SelfAttention
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.tokenizers.vqgan import VQGAN, VQGANConfig

TINY = VQGANConfig(
    channels=16, multipliers=(1, 2), n_res_blocks=1, n_decoder_res_blocks=1, z_channels=8, patch=2,
    quantizer=NearestCodeConfig(codebook_size=48, codebook_dim=6),
)  # fmt: skip
TAMING = VQGANConfig(
    multipliers=(1, 1, 2, 2, 4), attention=(16,), z_channels=256, pixel_range="symmetric",
    quantizer=NearestCodeConfig(codebook_size=1024, codebook_dim=256),
)  # fmt: skip


def images(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def with_codes(config: VQGANConfig, size: int) -> VQGAN:
    """A random net whose codes lie on latents of its pictures, so that all are used."""
    made = VQGAN(config, size).init_weights(0).eval()
    with torch.no_grad():
        latents = made.latents(images(16, size, seed=9))
    made.quantize.place(latents, torch.Generator().manual_seed(0))
    return made


def test_the_published_tokenizer() -> None:
    """REFERENCE section 3: 146,244,675 parameters, 16 x 16 codes of 256 x 256 pixels, no attention."""
    with torch.device("meta"):
        made = VQGAN(VQGANConfig(), 256)
    assert sum(p.numel() for p in made.parameters()) == 146_244_675
    assert (made.config.f, made.grid, made.n_tokens, made.codebook_size) == (16, (16, 16), 256, 8192)
    names = set(made.state_dict())
    assert not [name for name in names if "attn" in name]
    shapes = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    expected = {
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "encoder.down.0.block.0.norm1.weight": (128,),
        "encoder.down.0.block.1.conv2.bias": (128,),
        "encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
        "encoder.down.3.downsample.conv.weight": (512, 512, 3, 3),
        "encoder.mid.block_1.conv1.weight": (768, 768, 3, 3),
        "encoder.norm_out.bias": (768,),
        "encoder.conv_out.weight": (64, 768, 3, 3),
        "quant_conv.weight": (64, 64, 1, 1),
        "quantize.embedding.weight": (8192, 64),
        "post_quant_conv.bias": (64,),
        "decoder.conv_in.weight": (768, 64, 3, 3),
        "decoder.mid.block_2.norm2.weight": (768,),
        "decoder.up.4.block.2.conv1.weight": (768, 768, 3, 3),
        "decoder.up.3.block.0.nin_shortcut.weight": (512, 768, 1, 1),
        "decoder.up.1.upsample.conv.weight": (256, 256, 3, 3),
        "decoder.up.0.block.0.norm1.weight": (256,),
        "decoder.conv_out.weight": (3, 128, 3, 3),
    }
    assert expected.items() <= shapes.items()
    for absent in (
        "encoder.down.4.downsample.conv.weight", "decoder.up.0.upsample.conv.weight",
        "encoder.down.2.block.0.nin_shortcut.weight", "encoder.down.0.block.2.conv1.weight", "quantize.use",
        "quantize.total",
    ):  # fmt: skip
        assert absent not in names, absent


def test_taming_geometry_has_attention_where_published() -> None:
    with torch.device("meta"):
        names = set(VQGAN(TAMING, 256).state_dict())
    attention = {name.rsplit(".", 2)[0] for name in names if "attn" in name}
    assert attention == {
        "encoder.down.4.attn.0", "encoder.down.4.attn.1", "encoder.mid.attn_1", "decoder.mid.attn_1",
        "decoder.up.4.attn.0", "decoder.up.4.attn.1", "decoder.up.4.attn.2",
    }  # fmt: skip
    parts = {name.rsplit(".", 2)[1] for name in names if "mid.attn_1" in name}
    assert parts == {"norm", "q", "k", "v", "proj_out"}


def test_attention_is_one_head_over_all_positions() -> None:
    torch.manual_seed(0)
    made, x = SelfAttention(8), torch.randn(2, 8, 3, 4)
    h = made.norm(x)
    q, k, v = (conv(h).flatten(2) for conv in (made.q, made.k, made.v))  # (B, C, P)
    weight = torch.einsum("bcp,bcs->bps", q, k).mul(8**-0.5).softmax(-1)
    expected = x + made.proj_out(torch.einsum("bps,bcs->bcp", weight, v).view_as(x))
    assert torch.allclose(made(x), expected, atol=1e-5)


def test_shortcuts_stand_only_where_the_width_changes() -> None:
    made = VQGAN(replace(TINY, n_res_blocks=2, multipliers=(1, 2, 2)), 16)
    names = [name for name in made.state_dict() if "nin_shortcut.weight" in name]
    assert names == ["encoder.down.1.block.0.nin_shortcut.weight", "decoder.up.0.block.0.nin_shortcut.weight"]


@pytest.mark.parametrize(
    ("change", "size", "f"),
    [
        ({}, 16, 4), ({"patch": 1}, 16, 2), ({"patch": 4, "multipliers": (1,)}, 8, 4), ({"patch": 3}, 24, 6),
        ({"multipliers": (1, 1, 2), "patch": 1, "attention": (16, 4)}, 16, 4), ({"pixel_range": "symmetric"}, 32, 4),
    ],
)  # fmt: skip
def test_shapes(change: dict, size: int, f: int) -> None:
    made = with_codes(replace(TINY, **change), size)
    assert made.config.f == f
    x = images(3, size)
    codes = made.encode(x)
    assert codes.shape == (3, (size // f) ** 2)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < 48
    assert len(codes.unique()) > 5
    y = made.decode(codes)
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert y.min() >= 0
    assert y.max() <= 1
    assert y.equal(made.decode(codes))
    out = made(x)
    assert out.images.shape == x.shape
    assert out.codes.equal(codes.flatten())
    assert out.latents.shape == (codes.numel(), 6)
    assert torch.allclose(out.images.clamp(0, 1), y, atol=1e-5)  # training sees what decoding gives
    plain = made(x, quantize=False)
    assert plain.loss.item() == 0
    assert len(plain.codes) == 0
    assert torch.allclose(plain.images, made.pixels(plain.latents), atol=1e-6)


def test_codes_stand_in_raster_order() -> None:
    """Each code is decided by the pixels around its own place: changing the lower right leaves the upper left."""
    made = with_codes(TINY, 64)
    a = images(1, 64)
    b = a.clone()
    b[:, :, 48:, 48:] = 1 - b[:, :, 48:, 48:]
    la, lb = (made.latents(x).view(16, 16, -1) for x in (a, b))
    change = (la - lb).norm(dim=2)
    assert change[12:, 12:].mean() > 20 * change[:8, :8].mean()
    assert change[:8, 12:].mean() < change[12:, 12:].mean() / 5


def test_patches_fold_and_unfold() -> None:
    """With patch 2 the first convolution sees each 2 x 2 square of a channel as four channels, in raster order."""
    made, x = VQGAN(TINY, 16).init_weights(0), images(1, 16)
    folded = F.pixel_unshuffle(x, 2)
    for i, (dy, dx) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert folded[:, i].equal(x[:, 0, dy::2, dx::2])
    seen = []
    made.encoder.conv_in.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    made.latents(x)
    assert seen[0].equal(folded)


def test_pixel_range() -> None:
    unit = VQGAN(TINY, 16).init_weights(0)
    symmetric = VQGAN(replace(TINY, pixel_range="symmetric"), 16).init_weights(0)
    x = images(2, 16)
    assert torch.allclose(symmetric.latents(x), unit.latents(2 * x - 1), atol=1e-6)
    z = torch.randn(32, 6)
    assert torch.allclose(symmetric.pixels(z), (unit.pixels(z) + 1) / 2, atol=1e-6)


def test_codes_do_not_depend_on_the_batch() -> None:
    """A code may differ only where its two best lie within rounding; there may be one such in 10,000 (DESIGN 3)."""
    made, x = with_codes(TINY, 32), images(40, 32)
    whole = made.encode(x)
    for size in (1, 7, 16):
        parts = torch.cat([made.encode(part) for part in x.split(size)])
        differ = (parts != whole).flatten()
        if differ.any():
            with torch.no_grad():
                latents = made.latents(x)[differ]
            two = torch.cdist(latents.double(), made.quantize.embedding.weight.double()).topk(2, largest=False).values
            assert (two[:, 1] - two[:, 0]).max() < 1e-5
        assert differ.sum() <= max(1, whole.numel() // 10_000)


def test_weights_are_drawn_from_the_seed() -> None:
    torch.manual_seed(1)
    a = VQGAN(TINY, 16).init_weights(5).state_dict()
    torch.manual_seed(2)
    b, c = VQGAN(TINY, 16).init_weights(5).state_dict(), VQGAN(TINY, 16).init_weights(6).state_dict()
    assert all(a[name].equal(b[name]) for name in a)
    assert not a["encoder.conv_in.weight"].equal(c["encoder.conv_in.weight"])
    assert not a["quantize.embedding.weight"].equal(c["quantize.embedding.weight"])
    bound = (3 * 2**2 * 9) ** -0.5
    assert a["encoder.conv_in.weight"].abs().max() == pytest.approx(bound, rel=0.02)


@pytest.mark.parametrize(
    ("change", "size", "said"),
    [
        ({}, 18, "picture size 18 is not a multiple of f = 4"),
        ({}, 0, "picture size 0 is not a multiple of f = 4"),
        ({}, 2, "picture size 2 is not a multiple of f = 4"),
        ({"attention": (5,)}, 16, "no feature map has a side of 5"),
    ],
)
def test_sizes_that_do_not_fit_are_told(change: dict, size: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VQGAN(replace(TINY, **change), size)


@pytest.mark.parametrize("change", [{"multipliers": ()}, {"multipliers": (1, 0)}, {"channels": 100}])
def test_widths_that_do_not_fit_are_told(change: dict) -> None:
    with pytest.raises(ValueError, match=r"multipliers must hold|cannot be split into"):
        replace(TINY, **change)


def test_norms_are_float32_inside_and_keep_the_type() -> None:
    torch.manual_seed(0)
    made, x = Norm(64), 100 + torch.randn(2, 64, 6, 6)
    reference = F.group_norm(x, 16, made.weight, made.bias, 1e-6)
    assert made(x).equal(reference)
    half = x.bfloat16().to(memory_format=torch.channels_last)
    out = made(half)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    exact = F.group_norm(half.double(), 16, eps=1e-6)  # a large mean must not eat the digits
    assert (out.double() - exact).abs().max() < 0.02
    assert set(made.state_dict()) == {"weight", "bias"}
