"""AdamW's groups, and the schedule's values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lvmlite.train.optim import OptimConfig, adamw, learning_rate


def test_warm_up_then_cosine() -> None:
    config = OptimConfig(lr=1.0, min_lr=0.1, warmup_steps=10)
    assert learning_rate(config, 0, 110) == pytest.approx(0.1)
    assert learning_rate(config, 4, 110) == pytest.approx(0.5)
    assert learning_rate(config, 9, 110) == learning_rate(config, 10, 110) == 1.0
    assert learning_rate(config, 60, 110) == pytest.approx(0.55)
    assert learning_rate(config, 35, 110) == pytest.approx(0.1 + 0.45 * (1 + math.sqrt(0.5)))
    assert learning_rate(config, 109, 110) == pytest.approx(0.1, abs=3e-4)
    assert learning_rate(config, 110, 110) == pytest.approx(0.1)


def test_the_papers_second_stage() -> None:
    """No warm-up, 1.5e-5 -> 1.5e-6."""
    config = OptimConfig(lr=1.5e-5, min_lr=1.5e-6, warmup_steps=0)
    rates = [learning_rate(config, step, 15639) for step in range(15639)]
    assert rates[0] == pytest.approx(1.5e-5)
    assert rates[-1] == pytest.approx(1.5e-6, rel=1e-6)
    assert rates == sorted(rates, reverse=True)


def test_a_warm_up_longer_than_the_run() -> None:
    rates = [learning_rate(OptimConfig(lr=1.0, min_lr=0.1, warmup_steps=50), step, 20) for step in range(20)]
    assert rates == [pytest.approx((step + 1) / 50) for step in range(20)]


def test_min_lr_above_lr_is_told() -> None:
    with pytest.raises(ValueError, match=r"min_lr 0\.2 is above lr 0\.1"):
        OptimConfig(lr=0.1, min_lr=0.2)


@pytest.mark.parametrize("decay_norms", [False, True])
def test_what_decays(decay_norms: bool) -> None:
    """With no gradient to speak of, a step only decays."""
    net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Embedding(2, 2))
    net[2].weight.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = adamw(
        net.named_parameters(), OptimConfig(lr=0.1, min_lr=0.1, weight_decay=0.5, decay_norms=decay_norms)
    )
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in net.named_parameters():
        decays = name == "0.weight" or (decay_norms and not name.startswith("2"))
        assert torch.allclose(p, before[name] * (0.95 if decays else 1.0)), name


def test_nothing_to_train_is_told() -> None:
    net = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        adamw(net.named_parameters(), OptimConfig())
