"""Winograd convolutions against PyTorch's in float64, and where the VQGAN takes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.tokenizers import winograd
from lvmlite.tokenizers.convnet import Conv3x3, Norm
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.tokenizers.vqgan import VQGAN, VQGANConfig

WIDE = VQGANConfig(
    channels=64, multipliers=(1, 2), n_res_blocks=1, n_decoder_res_blocks=1, z_channels=8,
    quantizer=NearestCodeConfig(codebook_size=64, codebook_dim=8),
)  # fmt: skip


@pytest.fixture(params=[1 << 12, 1 << 16, 1 << 20], ids=["rows", "strips", "pictures"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(winograd, "CHUNK", request.param)
    return int(request.param)


def maps(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


def off(found: Tensor, expected: Tensor) -> float:
    """Largest difference, as a share of the largest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("shape", "n_out"), [((3, 8, 16, 16), 12), ((1, 5, 37, 50), 3), ((5, 4, 8, 4), 4), ((2, 3, 1, 1), 2)]
)
@pytest.mark.parametrize("biased", [True, False])
def test_the_convolution(shape: tuple[int, ...], n_out: int, biased: bool, chunk: int) -> None:
    torch.manual_seed(1)
    conv, x = nn.Conv2d(shape[1], n_out, 3, padding=1, bias=biased), maps(*shape)
    found = winograd.convolve(x, winograd.transform(conv.weight), conv.bias)
    with torch.no_grad():
        assert off(found, conv.double()(x.double())) < 1e-5


@pytest.mark.parametrize(("shape", "groups"), [((3, 8, 16, 16), 2), ((2, 12, 9, 30), 3)])
def test_norm_and_silu_before_it(shape: tuple[int, ...], groups: int, chunk: int) -> None:
    """Of a map whose mean is 50 times its spread; the border is zero after the norm, not before."""
    torch.manual_seed(1)
    conv, norm = nn.Conv2d(shape[1], 6, 3, padding=1), nn.GroupNorm(groups, shape[1], eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = 50 + maps(*shape)
    affine = winograd.group_affine(x, groups, norm.weight, norm.bias, norm.eps)
    found = winograd.convolve(x, winograd.transform(conv.weight), conv.bias, affine)
    with torch.no_grad():
        assert off(found, conv.double()(F.silu(norm.double()(x.double())))) < 2e-5


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths of the convolutions that took the fast path."""
    seen: list[int] = []
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda x, *rest: seen.append(x.shape[1]) or convolve(x, *rest))
    return seen


def test_it_is_taken_without_gradient_only(calls: list[int]) -> None:
    made = VQGAN(WIDE, 64).init_weights(0)
    x = torch.rand(2, 3, 64, 64)
    direct = made.latents(x).detach()
    assert calls == []
    with torch.no_grad():
        fast = made.latents(x)
        assert 64 in calls
        assert 128 in calls
        assert off(fast, direct) < 1e-4
        shown = made.pixels(fast)
        calls.clear()
        with torch.autocast("cpu", torch.bfloat16):
            made.latents(x)
        assert calls == []
    assert off(shown, made.pixels(fast).detach()) < 1e-4
    assert calls == []


def test_small_and_narrow_maps_stay_with_pytorch(calls: list[int]) -> None:
    with torch.no_grad():
        Conv3x3(64, 64)(maps(1, 64, 8, 16))
        Conv3x3(64, 3)(maps(1, 64, 64, 64))
        assert calls == []
        Conv3x3(64, 64)(maps(1, 64, 16, 16))
        assert calls == [64]


def test_a_weight_changed_by_an_optimiser_is_seen() -> None:
    conv, x = Conv3x3(64, 64), maps(1, 64, 32, 32)
    optimizer = torch.optim.AdamW(conv.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        conv(x).square().sum().backward()
        with torch.no_grad():
            conv(x)
        optimizer.step()
        with torch.no_grad():
            assert off(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1)) < 1e-5


def test_the_norm_of_the_net_is_the_one_folded_in() -> None:
    torch.manual_seed(0)
    norm, x = Norm(64), maps(2, 64, 32, 32)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    scale, shift = winograd.group_affine(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    with torch.no_grad():
        assert off(x * scale[:, :, None, None] + shift[:, :, None, None], norm(x)) < 1e-5
