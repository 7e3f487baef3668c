"""The adversarial losses against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lvmlite.train.losses import (
    ReconstructionConfig,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    lecam,
    open_perceptual,
    reconstruction_loss,
)

REAL = np.array([[2.0, 0.5], [-1.0, 0.0]])
FAKE = np.array([[-3.0, 0.25], [1.5, -1.0]])


def logits() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(REAL), torch.from_numpy(FAKE)


def test_hinge() -> None:
    real, fake = logits()
    expected = 0.5 * (np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean())
    assert discriminator_loss("hinge", real, fake).item() == pytest.approx(expected)
    assert generator_loss("hinge", fake).item() == pytest.approx(-FAKE.mean())


def test_non_saturating() -> None:
    """Cross entropy with the true answer for the discriminator, with the wrong one for the generator."""
    real, fake = logits()
    chance_real, chance_fake = 1 / (1 + np.exp(-REAL)), 1 / (1 + np.exp(-FAKE))
    expected = -0.5 * (np.log(chance_real).mean() + np.log(1 - chance_fake).mean())
    assert discriminator_loss("non-saturating", real, fake).item() == pytest.approx(expected)
    assert generator_loss("non-saturating", fake).item() == pytest.approx(-np.log(chance_fake).mean())


def test_lecam() -> None:
    real, fake = logits()
    expected = (np.maximum(0, REAL - -0.3) ** 2).mean() + (np.maximum(0, 0.4 - FAKE) ** 2).mean()
    assert lecam(real, fake, torch.tensor(0.4), torch.tensor(-0.3)).item() == pytest.approx(expected)


def test_adaptive_weight() -> None:
    three_four, half = torch.tensor([[3.0, 4.0]]), torch.tensor([0.5])
    assert adaptive_weight(three_four, half).item() == pytest.approx(5 / (0.5 + 1e-4))
    assert adaptive_weight(three_four, torch.zeros(1)).item() == 1e4  # 5e4, cut
    assert adaptive_weight(three_four * 0, half).item() == 0


def test_the_perceptual_distance_is_weighted_and_logged() -> None:
    class Gap(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x - y).flatten(1).amax(1)

    x, y = torch.tensor([[0.5, 1.0], [0.5, 0.25]]), torch.tensor([[0.0, 1.0], [0.25, 0.0]])
    config = ReconstructionConfig(l1=0.0, l2=0.0, lpips=2.0)
    loss, parts = reconstruction_loss(config, x, y, Gap())
    assert parts["lpips"].item() == pytest.approx(0.375)
    assert loss.item() == pytest.approx(0.75)
    assert open_perceptual(ReconstructionConfig(), torch.device("cpu")) is None
