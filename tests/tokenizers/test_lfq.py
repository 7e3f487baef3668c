"""LFQ and BSQ: bits, gradients, and the entropy loss against the full distribution of latents over codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lvmlite import recipe
from lvmlite.tokenizers.quantizers import lfq
from lvmlite.tokenizers.quantizers.lfq import BSQ, LFQ, BSQConfig, LFQConfig

KINDS = {"lfq": (LFQConfig, LFQ), "bsq": (BSQConfig, BSQ)}
both = pytest.mark.parametrize("kind", KINDS)


def quantizer(kind: str, bits: int = 6, **settings: Any) -> LFQ:
    config, made = KINDS[kind]
    return made(config(codebook_size=2**bits, **settings))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- codes


@both
@pytest.mark.parametrize("bits", [1, 2, 5, 13, 18])
def test_every_code_is_reached_and_comes_back(kind: str, bits: int) -> None:
    made = quantizer(kind, bits)
    codes = torch.arange(2**bits)
    values = made.decode(codes)
    assert values.dtype == torch.float32
    assert values.abs().unique().tolist() == pytest.approx([1.0 if kind == "lfq" else bits**-0.5])
    assert len({*map(tuple, values[:4096].tolist())}) == min(4096, 2**bits)
    assert made.encode(values).equal(codes)
    assert made.encode(values * torch.rand(len(codes), 1).add(0.01)).equal(codes)


@both
def test_the_first_dimension_is_the_lowest_bit(kind: str) -> None:
    made = quantizer(kind, 3)
    latents = torch.tensor(
        [[0.1, -3.0, -0.2], [-0.1, 3.0, -0.2], [-1.0, -1.0, 1e-30], [2.0, -1.0, 5.0], [0.0, 0.0, 0.0]]
    )
    assert made.encode(latents).tolist() == [1, 2, 4, 5, 0]
    side = 1.0 if kind == "lfq" else 3**-0.5
    assert made.decode(torch.tensor([6])).tolist() == [pytest.approx([-side, side, side])]


@both
def test_the_code_is_the_nearest(kind: str) -> None:
    made, x = quantizer(kind, 7), draw(300, 7)
    assert made.encode(x).equal(torch.cdist(made.placed(x), made.decode(torch.arange(128))).argmin(1))


# --- gradients


@both
def test_the_gradient_passes_straight(kind: str) -> None:
    made = quantizer(kind, 6)
    x, upstream = draw(20, 6).requires_grad_(), draw(20, 6, seed=1)
    (gradient,) = torch.autograd.grad((made(x).latents * upstream).sum(), x)
    y = x.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(((F.normalize(y, dim=1) if kind == "bsq" else y) * upstream).sum(), y)
    assert gradient.equal(expected)


def test_the_commitment_loss() -> None:
    made = quantizer("lfq", 2, commitment_weight=0.5, entropy_weight=0.0)
    x = torch.tensor([[1.5, -3.0], [-1.0, 0.5]], requires_grad=True)
    out = made(x)
    assert out.loss.item() == 0.5 * (0.25 + 4 + 0 + 0.25) / 4
    assert out.parts["commitment"].item() == 4.5 / 4
    (gradient,) = torch.autograd.grad(out.loss, x)
    assert gradient.tolist() == [[0.125, -0.5], [0.0, -0.125]]


def test_the_sphere() -> None:
    """The length of a latent changes nothing."""
    made, x = quantizer("bsq", 5), draw(40, 5)
    near, far = made(x), made(x * 1000)
    assert near.latents.square().sum(1).tolist() == pytest.approx([1.0] * 40)
    assert near.codes.equal(far.codes)
    assert near.loss.item() == pytest.approx(far.loss.item(), rel=1e-5)
    assert near.parts["commitment"].item() == pytest.approx((near.latents - F.normalize(x)).square().mean().item())


@both
def test_zeros_and_saturated_bits_have_finite_gradients(kind: str) -> None:
    made = quantizer(kind, 8, temperature=1e-4)
    x = torch.cat([torch.zeros(3, 8), 1e6 * draw(5, 8), draw(5, 8)]).requires_grad_()
    out = made(x)
    (gradient,) = torch.autograd.grad(out.loss + out.latents.sum(), x)
    assert out.loss.isfinite()
    assert gradient.isfinite().all()


# --- the entropy loss


def full(made: LFQ, x: Tensor, group_bits: int = 18) -> tuple[Tensor, Tensor]:
    """Both entropies from the softmax of every latent over every code, in float64."""
    codes = made.decode(torch.arange(made.codebook_size)).double()
    if isinstance(made, BSQ):
        x = x / x.norm(dim=1, keepdim=True)
    distance = x.square().sum(1, keepdim=True) - 2 * x @ codes.t() + codes.square().sum(1)
    share = (-distance / made.config.temperature).softmax(1)
    each = torch.special.entr(share).sum(1).mean()
    mean, total, bit = share.mean(0), torch.zeros((), dtype=torch.float64), 0
    while bit < made.dim:
        group = (torch.arange(made.codebook_size) >> bit) % 2 ** min(group_bits, made.dim - bit)
        total = total + torch.special.entr(torch.zeros(group.max() + 1).double().index_add(0, group, mean)).sum()
        bit += group_bits
    return each, total


@both
@pytest.mark.parametrize(
    ("bits", "n", "temperature", "group_bits"),
    [
        (1, 5, 1.0, 18), (6, 37, 1.0, 18), (7, 37, 0.3, 18), (9, 64, 0.5, 9), (8, 50, 1.0, 3), (8, 50, 1.0, 4),
        (5, 20, 1.0, 1), (18, 3, 2.0, 18), (18, 3, 2.0, 9),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk", [1, 100, 1 << 22])
def test_the_entropies_are_exact(
    kind: str, bits: int, n: int, temperature: float, group_bits: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lfq, "MEAN_CHUNK", chunk)
    weights = {"entropy_weight": 0.7, "diversity_weight": 1.3, "commitment_weight": 0.0}
    made = quantizer(kind, bits, temperature=temperature, group_bits=group_bits, **weights)
    x = draw(n, bits).mul(0.4).requires_grad_()
    out = made(x)
    y = x.detach().double().requires_grad_()
    each, mean = full(made, y, group_bits)
    assert out.parts["sample_entropy"].item() == pytest.approx(each.item(), rel=1e-5)
    assert out.parts["mean_entropy"].item() == pytest.approx(mean.item(), rel=1e-5)
    expected = 0.7 * (each - 1.3 * mean)
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    (gradient,) = torch.autograd.grad(out.loss, x)
    (reference,) = torch.autograd.grad(expected, y)
    assert bits == 1 or reference.abs().max() > 1e-4  # on a sphere of one dimension nothing moves
    assert torch.allclose(gradient.double(), reference, rtol=1e-4, atol=1e-6)


def test_groups_are_no_less_than_the_whole() -> None:
    """Equal where bits are independent; two bits that always agree count once, or twice if in groups of their own."""
    sure = torch.tensor([[9.0, 9.0], [-9.0, -9.0]]) * 100
    ln2 = pytest.approx(0.6931472)
    assert lfq.mean_entropy(sure, 2).item() == ln2
    assert lfq.mean_entropy(sure, 1).item() / 2 == ln2
    logits = draw(50, 10)
    whole, *groups = (lfq.mean_entropy(logits, bits).item() for bits in (10, 5, 3, 1))
    assert whole < min(groups)
    assert max(groups) < 10 * 0.6931472


def test_bits_at_rest_and_bits_decided() -> None:
    ln2 = 0.6931472
    assert lfq.sample_entropy(torch.zeros(4, 3)).item() == pytest.approx(3 * ln2)
    assert lfq.mean_entropy(torch.zeros(4, 3), 18).item() == pytest.approx(3 * ln2)
    corners = (quantizer("lfq", 3).decode(torch.arange(8))) * 1e4
    assert lfq.sample_entropy(corners).item() == 0.0
    assert lfq.mean_entropy(corners, 18).item() == pytest.approx(3 * ln2)


def test_the_entropy_loss_spreads_and_decides() -> None:
    """Latents huddled on one code take more of them, and leave the borders between."""
    made = quantizer("lfq", 4, temperature=1.0, commitment_weight=0.0, entropy_weight=1.0)
    x = (draw(200, 4) * 0.3 + 0.8).requires_grad_()
    before = made(x)
    optimizer = torch.optim.Adam([x], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        made(x).loss.backward()
        optimizer.step()
    after = made(x)
    assert len(before.codes.unique()) < 10
    assert len(after.codes.unique()) == 16
    assert after.parts["sample_entropy"] < 0.3 * before.parts["sample_entropy"]


# --- memory and precision


class Largest(TorchDispatchMode):
    """Watches the entries of every tensor that is made."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else [out]:
            if isinstance(made, Tensor):
                self.entries = max(self.entries, made.numel())
        return out


@contextmanager
def kept() -> Iterator[dict[int, int]]:
    """Entries of what autograd keeps for the backward pass, by address."""
    entries: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        entries[x.data_ptr()] = max(x.numel(), entries.get(x.data_ptr(), 0))
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield entries


@both
def test_memory_is_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """2^18 codes: no tensor is larger than one entry a code, forward or backward; (N, K) would be 4000 times that."""
    monkeypatch.setattr(lfq, "MEAN_CHUNK", 1 << 18)
    n, k = 4000, 2**18
    made, x = quantizer(kind, 18, group_bits=18), draw(n, 18).requires_grad_()
    with Largest() as largest, kept() as entries:
        made(x).loss.backward()
    assert largest.entries == k
    assert sum(entries.values()) < 8 * k
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@both
def test_float32_in_autocast(kind: str) -> None:
    made = quantizer(kind, 10, temperature=0.5)
    x, y = (draw(300, 10).requires_grad_() for _ in range(2))
    expected = made(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = made(y)
    assert out.latents.dtype == out.loss.dtype == torch.float32
    assert out.latents.equal(expected.latents)
    assert out.loss.equal(expected.loss)
    expected.loss.backward()
    out.loss.backward()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.equal(y.grad)


@both
def test_bad_codebook_sizes(kind: str) -> None:
    config, _ = KINDS[kind]
    for size in (1000, 1, 0, -8, 2**19):
        said = f"codebook_size must be a power of two from 2 to 262144, got {size}"
        with pytest.raises(ValueError, match=said):
            config(codebook_size=size)
    with pytest.raises(recipe.RecipeError, match="power of two from 2 to 262144, got 1000"):
        recipe.build(config, {"codebook_size": 1000})
    assert config(codebook_size=2**18).codebook_dim == 18
    assert config(codebook_size=2).codebook_dim == 1


def test_nothing_to_learn() -> None:
    assert quantizer("bsq").state_dict() == {}
    assert list(quantizer("lfq").parameters()) == []
