"""The fast paths of attention are the reference path: values and gradients; packed sentences are sentences alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from lvmlite.model.attention import (
    FLEX_BLOCK,
    Documents,
    attend,
    block_mask,
    blockwise_causal,
    by_block,
    by_length,
    padded,
    reference,
)

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # its plain form


@st.composite
def segmentations(draw: st.DrawFn) -> torch.Tensor:
    """(B, T) documents as no stream is bound to make them: rows of any lengths, padding anywhere or nowhere."""
    t = draw(st.integers(1, 40))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        row: list[int] = []
        while len(row) < t:
            n = draw(st.integers(1, t))
            number = draw(st.sampled_from([i for i in (-1, 0, 7, 3) if i < 0 or row[-1:] != [i]]))
            row += [number] * n
        rows.append(row[:t])
    return torch.tensor(rows, dtype=torch.int32)


def heads(b: int, t: int, h: int, groups: int, d: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(b * t + d)
    shapes = [(b, t, h, d), (b, t, groups, d), (b, t, groups, d)]
    made = [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]
    return [x.transpose(1, 2).requires_grad_() for x in made]


def with_gradients(attention: Any, inputs: list[torch.Tensor], mask: Any) -> list[torch.Tensor]:
    y = attention(*inputs, mask)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    return [y, *torch.autograd.grad((y * weight).sum(), inputs, materialize_grads=True)]


def blocks(inputs: list[torch.Tensor], documents: Documents) -> torch.Tensor:
    """FlexAttention in its plain form, which has no backward on CPUs."""
    return by_block(*(x.detach() for x in inputs), block_mask(documents.sentence), documents.padding)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(segmentations(), st.sampled_from([64, 100, 128]), st.sampled_from([(2, 2), (4, 2), (3, 1)]))
def test_sentences_by_length_equal_the_dense_mask(document: torch.Tensor, d: int, shape: tuple[int, int]) -> None:
    inputs, documents = heads(*document.shape, *shape, d), Documents(document, CPU)
    found = with_gradients(by_length, inputs, documents)
    for ours, theirs in zip(found, with_gradients(reference, inputs, documents), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert not ours[documents.padding[:, None].expand(ours.shape[:3])].any()


@settings(max_examples=8, deadline=None, derandomize=True)
@given(segmentations(), st.sampled_from([64, 100, 128]), st.sampled_from([(2, 2), (4, 2)]))
def test_blocks_equal_the_dense_mask(document: torch.Tensor, d: int, shape: tuple[int, int]) -> None:
    inputs, documents = heads(*document.shape, *shape, d), Documents(document, CPU)
    ours = blocks(inputs, documents)
    torch.testing.assert_close(ours, reference(*inputs, documents), atol=1e-5, rtol=1e-5)


def stretched(document: torch.Tensor, t: int) -> torch.Tensor:
    return document.repeat_interleave(-(-t // document.shape[1]), dim=1)[:, :t]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(segmentations(), st.sampled_from([FLEX_BLOCK, 3 * FLEX_BLOCK, 600]))
def test_blocks_are_those_that_pytorch_finds_in_the_whole_mask(document: torch.Tensor, t: int) -> None:
    sentence = Documents(stretched(document, t), CPU).sentence
    ours = block_mask(sentence)

    def same(b: Any, h: Any, i: Any, j: Any) -> torch.Tensor:
        return (sentence[b, i] == sentence[b, j]) & (i >= j)

    theirs = create_block_mask(same, len(sentence), None, t, t, device="cpu", BLOCK_SIZE=FLEX_BLOCK)
    assert ours.shape == theirs.shape
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(ours.to_dense(), theirs.to_dense())


def test_the_dense_mask_by_hand() -> None:
    documents = Documents(torch.tensor([[5, 5, 9, 9, 9, -1, -1]]), CPU)
    rows = ["1000000", "1100000", "0010000", "0011000", "0011100", "0000010", "0000001"]
    assert documents.dense()[0, 0].int().tolist() == [[int(x) for x in row] for row in rows]
    assert documents.lengths == {2: 2, 3: 3}
    assert documents.order.tolist() == [0, 1, 2, 3, 4]
    assert documents.uniform is None
    assert Documents(torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]), CPU).uniform == 2
    assert Documents(torch.tensor([[0, 0, 1, 1], [0, 0, -1, -1]]), CPU).uniform is None


@pytest.mark.parametrize("document", [[[0] * 8 + [1] * 8] * 2, [[0] * 8 + [1] * 8, [0] * 5 + [-1] * 11]])
def test_a_sentence_attends_as_it_would_alone(document: list[list[int]]) -> None:
    """Whatever stands beside it: other numbers elsewhere change nothing, bit for bit."""
    inputs, documents = heads(2, 16, 2, 2, 64), Documents(torch.tensor(document), CPU)
    y = attend(*inputs, documents)
    alone = attend(*(x[:1, :, :8] for x in inputs), None)
    torch.testing.assert_close(y[:1, :, :8], alone, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        for x in inputs:
            x[0, :, 8:] += 5
            x[1] -= 5
    assert torch.equal(attend(*inputs, documents)[0, :, :8], y[0, :, :8])


@pytest.mark.parametrize("attention", [reference, by_length, attend])
def test_padding_alone_gives_zeros_and_no_nan(attention: Any) -> None:
    inputs, documents = heads(2, 6, 4, 2, 64), Documents(torch.full((2, 6), -1), CPU)
    assert all(not x.any() for x in with_gradients(attention, inputs, documents))
    assert not blocks(inputs, documents).any()


def test_queries_that_may_look_nowhere_give_no_nan() -> None:
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    mask[..., 2:4, :] = False
    for x in with_gradients(attend, heads(2, 6, 4, 2, 64), mask):
        assert x.isfinite().all()


@pytest.mark.parametrize("t", [16, 24])
def test_under_autocast_sentences_by_length_are_the_dense_mask(t: int) -> None:
    """t 16: one length and no padding, so that rows split without a copy; 24: padded."""
    documents = Documents(torch.tensor([[0] * 8 + [1] * 8 + [-1] * (t - 16)] * 2), CPU)
    inputs = heads(2, t, 4, 4, 64)
    expected = with_gradients(reference, inputs, documents)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(by_length, inputs, documents)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


@pytest.mark.parametrize("d", [60, 64, 100])
@pytest.mark.parametrize("groups", [1, 4])
def test_heads_padded_to_a_multiple_of_8_give_the_same(d: int, groups: int) -> None:
    """What 3b's heads of 100 go through on CUDA, for both kernels that run there."""
    inputs = heads(2, 20, 4, groups, d)
    sdpa = partial(F.scaled_dot_product_attention, is_causal=True, enable_gqa=groups != 4)
    found = with_gradients(lambda q, k, v, mask: padded(sdpa, q, k, v), inputs, None)
    for ours, theirs in zip(found, with_gradients(attend, inputs, None), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    documents = Documents(torch.tensor([[0] * 11 + [1] * 9] * 2), CPU)
    flex = partial(flex_attention, block_mask=block_mask(documents.sentence), enable_gqa=groups != 4)
    wide = padded(flex, *(x.detach() for x in inputs))
    torch.testing.assert_close(wide, attend(*inputs, documents), atol=1e-5, rtol=1e-5)


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
