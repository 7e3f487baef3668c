"""Finite scalar quantisation: the published example, every code reached and told apart, the gradient of the bound."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lvmlite import recipe
from lvmlite.tokenizers.quantizers.fsq import FSQ, FSQConfig

SHAPES = [(2,), (3,), (8, 5, 5, 5), (2, 2, 2), (7, 5, 5, 5, 5), (256, 4), (255, 3), (64, 64, 64), (4,) * 9, (2,) * 18]


def quantizer(*levels: int) -> FSQ:
    return FSQ(FSQConfig(levels=levels))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_published_example() -> None:
    """Levels 3, 5 and 4 of the latent (0.25, 0.6, -7) are 0, 0.5 and -1: code 1 + 3 * 3 + 0 * 15."""
    made = quantizer(3, 5, 4)
    assert made.codebook_size == 60
    out = made(torch.tensor([[0.25, 0.6, -7.0]]))
    assert out.latents.tolist() == [[0.0, 0.5, -1.0]]
    assert out.codes.tolist() == [10]


def test_the_first_dimension_is_the_lowest_digit() -> None:
    made, far = quantizer(4, 3), 50.0
    latents = torch.tensor([[-far, -far], [far, -far], [-far, far], [far, far]])
    assert made.encode(latents).tolist() == [0, 3, 8, 11]
    assert made.decode(torch.arange(12))[:5].tolist() == [[-1, -1], [-0.5, -1], [0, -1], [0.5, -1], [-1, 0]]


def edges(level: int) -> list[float]:
    """Latents at which the code of a dimension changes, by the paper's formula in float64."""
    half = (level - 1) * (1 - 1e-3) / 2
    offset = 0.0 if level % 2 else 0.5
    between = [digit - level // 2 + 0.5 for digit in range(level - 1)]
    return [math.atanh((value + offset) / half) - math.tan(offset / half) for value in between]


@pytest.mark.parametrize("level", [2, 3, 4, 5, 8, 255, 256])
def test_codes_change_where_the_formula_says(level: int) -> None:
    made, at = quantizer(level), torch.tensor(edges(level), dtype=torch.float64)
    for side, digits in ((-1e-5, torch.arange(level - 1)), (1e-5, torch.arange(1, level))):
        assert made.encode((at + side).float()[:, None]).equal(digits)


@pytest.mark.parametrize("levels", SHAPES)
def test_every_code_is_reached_and_told_apart(levels: tuple[int, ...]) -> None:
    made = quantizer(*levels)
    assert (made.codebook_size, made.dim) == (math.prod(levels), len(levels))
    codes = torch.arange(made.codebook_size)
    values = made.decode(codes)
    assert values.shape == (len(codes), len(levels))
    assert values.dtype == torch.float32
    assert values.aminmax() == (-1.0, max((level - 1) // 2 / (level // 2) for level in levels))
    assert made.codes(values).equal(codes)
    middles = []
    for level in levels:  # a latent for each level, between the edges
        at = edges(level)
        at = [at[0] - 1, *at, at[-1] + 3]
        middles.append(torch.tensor([(low + high) / 2 for low, high in pairwise(at)]))
    digits = [codes // math.prod(levels[:i]) % level for i, level in enumerate(levels)]
    latents = torch.stack([middle[digit] for middle, digit in zip(middles, digits)], 1)
    assert made.encode(latents).equal(codes)
    assert made(latents).latents.equal(values)


def test_latents_at_zero_stand_in_the_middle() -> None:
    made = quantizer(3, 4, 5, 8)
    assert made.bound(torch.zeros(1, 4)).abs().max() < 2e-3
    assert made(torch.zeros(2, 4)).latents.tolist() == [[0.0] * 4] * 2


def test_no_latent_leaves_the_levels() -> None:
    made = quantizer(2, 3, 8, 255)
    far = torch.tensor([-math.inf, -1e30, -20.0, 20.0, 1e30, math.inf])[:, None].expand(-1, 4)
    lowest, highest = made.decode(torch.tensor([0, made.codebook_size - 1]))
    assert made.decode(made.encode(far)).equal(torch.stack([lowest] * 3 + [highest] * 3))


def test_the_gradient_is_that_of_the_bound() -> None:
    levels = (8, 5, 2)
    made, x, upstream = quantizer(*levels), draw(30, 3).requires_grad_(), draw(30, 3, seed=1)
    (gradient,) = torch.autograd.grad((made(x).latents * upstream).sum(), x)
    z = x.detach().double()
    for i, level in enumerate(levels):
        half = (level - 1) * (1 - 1e-3) / 2
        shift = 0.0 if level % 2 else math.tan(0.5 / half)
        slope = (1 - torch.tanh(z[:, i] + shift) ** 2) * half / (level // 2)
        assert torch.allclose(gradient[:, i].double(), upstream[:, i].double() * slope, atol=1e-5)


def test_no_loss_and_nothing_to_learn() -> None:
    made = quantizer(8, 5)
    out = made(draw(9, 2))
    assert (out.loss.item(), out.parts) == (0.0, {})
    assert list(made.parameters()) == []
    assert made.state_dict() == {}


def test_float32_in_autocast() -> None:
    made, x = quantizer(8, 8, 8, 6, 5), draw(500, 5)
    expected = made(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = made(x)
    assert out.latents.dtype == torch.float32
    assert out.latents.equal(expected.latents)
    assert out.codes.equal(expected.codes)
    assert made(x.bfloat16()).latents.equal(made(x.bfloat16().float()).latents)


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([8, 1], r"levels must hold numbers from 2 to 256, got \[8, 1\]"),
        ([], r"levels must hold numbers from 2 to 256, got \[\]"),
        ([257], r"levels must hold numbers from 2 to 256, got \[257\]"),
        ([64, 64, 65], "levels must have a product of at most 262144 codes, got 266240"),
    ],
)
def test_bad_levels(levels: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FSQConfig(levels=tuple(levels))
    with pytest.raises(recipe.RecipeError, match=said):
        recipe.build(FSQConfig, {"levels": levels})
