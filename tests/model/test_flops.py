"""FLOPs and parameter counts against the papers' tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lvmlite.model.architecture import Architecture, ModelConfig
from lvmlite.model.flops import (
    PUBLISHED_TFLOPS,
    device_hours,
    executed_flops,
    forward_flops,
    imagenet_epochs,
    matmul_parameters,
    recipe_speedup,
    training_flops,
)
from lvmlite.model.transformer import Transformer

PARAMETERS = {"300m": 291e6, "600m": 648e6, "1b": 1.15e9, "3b": 3.27e9, "7b": 6.54e9}  # REFERENCE section 3
SHORT = {"300m": 0.15, "600m": 0.33, "1b": 0.59, "3b": 1.68}  # the formula at context 256


def released(preset: str) -> Architecture:
    """With the released vocabulary of 8192 codes + 100."""
    return replace(ModelConfig(preset).resolve(8192), vocab_size=8292)


@pytest.mark.parametrize("preset", PARAMETERS)
def test_parameters_as_published(preset: str) -> None:
    arch = released(preset)
    assert arch.n_parameters == pytest.approx(PARAMETERS[preset], rel=0.01)
    with torch.device("meta"):
        model = Transformer(arch)
    assert sum(p.numel() for p in model.parameters()) == arch.n_parameters
    products = sum(p.numel() for name, p in model.named_parameters() if "embed_tokens" not in name)
    assert matmul_parameters(arch) == products


@pytest.mark.parametrize("preset", PUBLISHED_TFLOPS)
def test_forward_flops_as_published(preset: str) -> None:
    published = PUBLISHED_TFLOPS[preset]
    for arch in (released(preset), ModelConfig(preset).resolve(8192)):
        assert forward_flops(arch, 4096) / 1e12 == pytest.approx(published[4096], rel=0.08)
        assert forward_flops(arch, 256) / 1e12 == pytest.approx(SHORT[preset], rel=0.03)
        assert forward_flops(arch, 256) / 1e12 == pytest.approx(published[256], abs=0.1)  # one digit is given


def test_the_causal_half() -> None:
    arch = released("1b")
    products = 2 * matmul_parameters(arch) * 4096
    pairs = sum(i + 1 for i in range(4096))  # a query sees itself and all before it
    assert forward_flops(arch, 4096, causal=True) == products + 4 * arch.n_layers * arch.dim * pairs
    full, half = (forward_flops(arch, 4096, causal) - products for causal in (False, True))
    assert half / full == pytest.approx(0.5, rel=1e-3)


def test_the_counted_products_are_those_of_the_model() -> None:
    """PyTorch counts the products of a real forward; it counts the causal half of attention as a whole, as we do."""
    arch = ModelConfig(dim=64, hidden_dim=96, n_layers=3, n_heads=4).resolve(126)
    model = Transformer(arch)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, 48, dtype=torch.long))
    norms = (2 * arch.n_layers + 1) * arch.dim
    counted = forward_flops(arch, 48) - 2 * 48 * norms
    assert counter.get_total_flops() == pytest.approx(counted, rel=1e-3)


def test_training_costs_three_forwards_and_scales_with_tokens() -> None:
    arch = released("300m")
    assert training_flops(arch, 256, 256 * 10) == pytest.approx(30 * forward_flops(arch, 256))
    per_token = [forward_flops(arch, n) / n for n in (256, 4096)]
    assert per_token[1] / per_token[0] == pytest.approx(1.6, abs=0.05)  # of 19.4x a sequence, 1.6x a token


def test_what_is_executed() -> None:
    """Recomputing blocks costs a fourth forward; "selective" repeats gate and up of the MLP."""
    arch, tokens = released("300m"), 4096 * 5
    needed = training_flops(arch, 4096, tokens)
    assert executed_flops(arch, 4096, tokens) == needed
    assert executed_flops(arch, 4096, tokens, "block") == executed_flops(arch, 4096, tokens, "bpt")
    assert executed_flops(arch, 4096, tokens, "bpt") == pytest.approx(4 / 3 * needed)
    gate_and_up = 2 * 2 * arch.dim * arch.hidden_dim * arch.n_layers * tokens
    assert executed_flops(arch, 4096, tokens, "selective") - needed == pytest.approx(gate_and_up)


def test_hours() -> None:
    """A device of 1 PFLOP/s at 50% takes an hour for 1.8 EFLOP."""
    assert device_hours(1.8e18, 1e15, 0.5) == 1


@pytest.mark.parametrize("r", [1.0, 1.59, 2.7, 19.4])
def test_the_whole_recipe_gains_less_than_stage_1(r: float) -> None:
    assert recipe_speedup(r, 200, 100) == pytest.approx(3 * r / (2 + r))
    hours = {"random": (800 + 300) * r, "single": 800 + 300 * r}  # a token of stage 1 takes an hour
    assert recipe_speedup(r, 800, 300) == pytest.approx(hours["random"] / hours["single"])
    assert recipe_speedup(r, 1, 0) == r


def test_epochs_of_the_paper() -> None:
    """Table 7: 125112 steps of 8192 pictures are 800 ImageNet epochs; 15639 steps of 512 x 16 are 100."""
    assert imagenet_epochs(125_112 * 8192 * 256) == pytest.approx(800, rel=1e-3)
    assert imagenet_epochs(15_639 * 512 * 4096) == pytest.approx(100, rel=1e-3)
    assert imagenet_epochs(1_281_167 * 64, tokens_per_picture=64) == 1
