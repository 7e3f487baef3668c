"""The fast path of attention is the reference path: values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lvmlite.model.attention import attend, blockwise_causal


def inputs(t: int, dtype: torch.dtype, d: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(t)
    shape = (2, 3, t, d)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("t", [1, 5, 8, 19, 32])
def test_blockwise_equals_sdpa_in_values_and_gradients(t: int) -> None:
    ours, theirs = inputs(t, torch.float64), inputs(t, torch.float64)
    a = blockwise_causal(*ours, block=8)
    b = F.scaled_dot_product_attention(*theirs, is_causal=True)
    torch.testing.assert_close(a, b)
    a.square().sum().backward()
    b.square().sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad)


def test_in_bf16_training_it_is_as_near_to_the_truth_as_sdpa() -> None:
    exact = [x.detach().double() for x in inputs(200, torch.bfloat16)]
    truth = F.scaled_dot_product_attention(*exact, is_causal=True)
    rough = inputs(200, torch.bfloat16)
    fast = (attend(*rough, None).double() - truth).abs().max()
    slow = (F.scaled_dot_product_attention(*rough, is_causal=True).double() - truth).abs().max()
    assert fast < 0.04
    assert fast < 4 * slow


def test_a_later_code_never_changes_an_earlier_answer() -> None:
    q, k, v = inputs(40, torch.bfloat16)
    before = attend(q, k, v, None).detach()
    k2, v2 = k.detach().clone(), v.detach().clone()
    k2[:, :, 25:] += 3
    v2[:, :, 25:] -= 3
    after = attend(q, k2, v2, None).detach()
    assert torch.equal(before[:, :, :25], after[:, :, :25])
    assert not torch.equal(before[:, :, 25:], after[:, :, 25:])
