"""Noise and the choice of a code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lvmlite.generate.sampling import Sampling, pick, uniforms


def choose(logits: list[float], u: float, **settings: float) -> int:
    rows = torch.tensor([logits], dtype=torch.float32)
    return int(pick(rows, torch.tensor([u], dtype=torch.float64), Sampling(**settings)))


def test_noise_is_a_function_of_its_four_numbers() -> None:
    whole = uniforms(5, np.arange(10), np.arange(3), 7).reshape(10, 3, 7)
    part = uniforms(5, np.array([4, 9]), np.array([2]), 3)
    assert np.array_equal(part, whole[[4, 9], 2, :3])
    assert not np.isin(uniforms(6, np.arange(10), np.arange(3), 7), whole).any()


def test_noise_is_uniform_and_its_numbers_independent() -> None:
    u = uniforms(0, np.arange(40), np.arange(40), 40)
    assert u.min() > 0
    assert u.max() < 1
    counts = np.bincount((u.ravel() * 64).astype(int), minlength=64)
    expected = u.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi square, 63 degrees: p = 2e-5
    cube = u.reshape(40, 40, 40) - 0.5
    for axis in range(3):
        following = np.roll(cube, -1, axis)
        assert abs((cube * following).mean() * 12) < 0.02
    assert len(np.unique(u)) > u.size - 5


def test_the_code_is_where_the_distribution_function_passes_u() -> None:
    logits = np.log([0.1, 0.2, 0.3, 0.4]).tolist()
    assert [choose(logits, u, top_k=0) for u in (0.05, 0.15, 0.29, 0.31, 0.59, 0.61, 0.999)] == [
        *(0, 1, 1, 2, 2, 3, 3),
    ]


@pytest.mark.parametrize("u", [1e-9, 0.3, 0.6, 1 - 2**-20])
def test_top_k_keeps_the_first_of_equals(u: float) -> None:
    assert choose([0, 1, 0, 1, 1], u, top_k=2) in (1, 3)
    assert choose([2, 2, 2, 2], u, top_k=3) in (0, 1, 2)
    assert choose([0, 5, 5, 0], u, top_k=1) == 1


@pytest.mark.parametrize("u", [1e-9, 0.3, 0.6, 1 - 2**-20])
def test_top_p_keeps_the_fewest_that_reach_it(u: float) -> None:
    logits = np.log([0.1, 0.2, 0.3, 0.4]).tolist()
    assert choose(logits, u, top_k=0, top_p=0.35) == 3
    assert choose(logits, u, top_k=0, top_p=0.6) in (2, 3)
    assert choose([1, 1, 1, 1], u, top_k=0, top_p=0.5) in (0, 1)
    assert choose(logits, u, top_k=0, top_p=1e-9) == 3


def test_top_p_looks_at_what_top_k_left() -> None:
    logits = np.log([0.1, 0.2, 0.3, 0.4]).tolist()
    seen = {choose(logits, u, top_k=2, top_p=0.57) for u in np.linspace(0.01, 0.99, 30)}
    assert seen == {3}  # 0.4 / 0.7 = 0.571


def test_a_temperature_near_0_is_greedy_and_a_great_one_uniform() -> None:
    logits = [0.0, 3.0, 2.9]
    for u in (0.001, 0.5, 0.999):
        assert choose(logits, u, temperature=1e-30) == 1
        assert choose(logits, u, temperature=0) == 1
    assert [choose(logits, u, temperature=1e30) for u in (0.2, 0.5, 0.9)] == [0, 1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"temperature": x} for x in (-1, float("nan"), float("inf"))),
        *({"top_p": x} for x in (0, 1.1, float("nan"))),
        *({"seed": x} for x in (-1, 2**64)),
        {"top_k": -1},
    ],
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Sampling(**wrong)
