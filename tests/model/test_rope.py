"""Rotary tables: those of transformers, stretched ones included."""

from __future__ import annotations

import math

import pytest
import torch

from lvmlite.model.architecture import ModelConfig, RopeScaling
from lvmlite.model.rope import rope_table

SHAPES = [dict(dim=256, n_heads=4), dict(dim=200, n_heads=2), dict(dim=128, n_heads=1)]  # heads of 64, 100, 128


def angles_of(shape: dict[str, int], n: int, scaling: RopeScaling | None, theta: float = 1e4) -> torch.Tensor:
    arch = ModelConfig(**shape, max_seq_len=n, rope_theta=theta, rope_scaling=scaling).resolve(126)
    return torch.stack(rope_table(arch, n, torch.device("cpu")))


def theirs(shape: dict[str, int], n: int, parameters: dict[str, object]) -> torch.Tensor:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=shape["dim"],
        num_attention_heads=shape["n_heads"],
        max_position_embeddings=n,
        rope_parameters=parameters,
    )
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(n)[None])
    return torch.stack((cos[0], sin[0]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("theta", [1e4, 1e7])
def test_plain_and_linear_tables_are_those_of_transformers(shape: dict[str, int], theta: float) -> None:
    n = 300
    plain = angles_of(shape, n, None, theta)
    assert (plain - theirs(shape, n, {"rope_type": "default", "rope_theta": theta})).abs().max() < 1e-6
    linear = angles_of(shape, n, RopeScaling("linear", 4.0), theta)
    expected = theirs(shape, n, {"rope_type": "linear", "factor": 4.0, "rope_theta": theta})
    assert (linear - expected).abs().max() < 1e-4  # their angle is t * (f / 4), ours (t / 4) * f
    torch.testing.assert_close(linear[:, ::4], plain[:, :75])


@pytest.mark.parametrize("shape", SHAPES)
def test_ntk_is_a_raised_theta_that_stretches_the_slowest_frequency(shape: dict[str, int]) -> None:
    d, n = shape["dim"] // shape["n_heads"], 300
    arch = ModelConfig(**shape, rope_scaling=RopeScaling("ntk", 4.0)).resolve(126)
    assert math.isclose(arch.rope_theta, 1e4 * 4 ** (d / (d - 2)))
    assert arch.rope_factor == 1
    ours = angles_of(shape, n, RopeScaling("ntk", 4.0))
    expected = theirs(shape, n, {"rope_type": "default", "rope_theta": arch.rope_theta})
    assert (ours - expected).abs().max() < 1e-6
    slowest = ours[1, :, d // 2 - 1].double().asin()  # far below a quarter turn: the angle itself
    plain = angles_of(shape, n, None)[1, :, d // 2 - 1].double().asin()
    torch.testing.assert_close(slowest * 4, plain, atol=1e-6, rtol=1e-4)
    assert torch.equal(ours[:, :, 0], angles_of(shape, n, None)[:, :, 0])  # the fastest stays


def test_heads_of_dimension_2_have_one_frequency_and_no_ntk() -> None:
    shape = dict(dim=8, n_heads=4, n_layers=1, hidden_dim=8)
    with pytest.raises(ValueError, match="rope_scaling of type ntk has nothing to stretch"):
        ModelConfig(**shape, rope_scaling=RopeScaling("ntk", 2.0)).resolve(126)
    assert ModelConfig(**shape, rope_scaling=RopeScaling("linear", 2.0)).resolve(126).rope_factor == 2
