"""Discriminators: shapes, what they see, weights from a seed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from lvmlite.train.discriminators import (
    DISCRIMINATORS,
    HalvingBlock,
    PatchGANConfig,
    StyleGANConfig,
    blur,
    build_discriminator,
)

TINY: dict[str, Any] = {
    "patchgan": PatchGANConfig(channels=8, n_layers=2),
    "stylegan": StyleGANConfig(channels=8),
}


def net(config: Any, size: int = 32, seed: int = 0) -> torch.nn.Module:
    return build_discriminator(config, size, torch.Generator().manual_seed(seed))


def pictures(n: int, size: int = 32) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_the_table_is_tested() -> None:
    assert TINY.keys() == DISCRIMINATORS.keys()


@pytest.mark.parametrize(("n_layers", "size", "side"), [(3, 256, 30), (3, 64, 6), (2, 32, 6), (1, 32, 14), (2, 12, 1)])
def test_patchgan_has_a_logit_a_patch(n_layers: int, size: int, side: int) -> None:
    """30 x 30 for 256 px and three layers, as published."""
    assert net(PatchGANConfig(channels=8, n_layers=n_layers), size)(pictures(2, size)).shape == (2, side * side)


def test_patchgan_has_the_published_layers() -> None:
    shapes = [tuple(p.shape) for p in net(PatchGANConfig(), 64).parameters() if p.dim() == 4]
    assert shapes == [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4)]


def test_a_logit_of_patchgan_depends_on_70_pixels() -> None:
    """Norms, which see the whole map, aside."""
    made = net(PatchGANConfig(channels=8), 128)
    made.main = torch.nn.Sequential(*[layer for layer in made.main if not isinstance(layer, torch.nn.GroupNorm)])
    x = pictures(1, 128).requires_grad_()
    made(x)[0, 6 * 14 + 6].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 70


@pytest.mark.parametrize("size", [8, 20, 32, 64])
def test_stylegan_has_one_logit(size: int) -> None:
    made = net(StyleGANConfig(channels=8), size)
    assert made(pictures(3, size)).shape == (3, 1)


def test_stylegan_widths_double_up_to_512() -> None:
    with torch.device("meta"):
        made = net_on_meta = DISCRIMINATORS["stylegan"][1](StyleGANConfig(), 256)
    widths = [block.shortcut.weight.shape[0] for block in net_on_meta.blocks]
    assert widths == [128, 256, 512, 512, 512, 512]
    assert made.linear.weight.shape == (512, 512 * 4 * 4)


@pytest.mark.parametrize("name", TINY)
def test_a_picture_does_not_see_its_batch(name: str) -> None:
    made, x = net(TINY[name]), pictures(6)
    alone = torch.cat([made(one[None]) for one in x])
    assert torch.allclose(made(x), alone, atol=1e-5)
    assert alone.std(0).mean() > 1e-3  # and sees itself


@pytest.mark.parametrize("name", TINY)
def test_weights_are_a_function_of_the_seed(name: str) -> None:
    a, b, c = (net(TINY[name], seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(a[key].equal(b[key]) for key in a)
    assert all(not a[key].equal(c[key]) for key in a if a[key].dim() > 1)


def test_activations_of_stylegan_keep_their_size() -> None:
    made = net(StyleGANConfig(channels=64), 64)
    logits = made(torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert 0.1 < logits.std().item() < 10


def test_blurring_keeps_flat_colours_and_removes_what_would_alias() -> None:
    flat = torch.full((1, 2, 8, 8), 0.7)
    assert torch.allclose(blur(flat), flat)
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 1, 8, 8)
    assert torch.allclose(blur(stripes)[..., 1:-1], torch.full((1, 1, 8, 6), 0.5))
    spot = torch.zeros(1, 1, 5, 5)
    spot[..., 2, 2] = 1
    assert blur(spot)[0, 0, 1:4, 1:4].equal(torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16)
    assert blur(spot, stride=2)[0, 0].equal(blur(spot)[0, 0, ::2, ::2])
    assert HalvingBlock(2, 4)(torch.zeros(1, 2, 7, 8)).shape == (1, 4, 4, 4)


def test_pictures_too_small_are_one_line() -> None:
    said = "a PatchGAN of n_layers 3 needs pictures of 24 px, these have 16; take fewer layers"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        net(PatchGANConfig(), 16)
