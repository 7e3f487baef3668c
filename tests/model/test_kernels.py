"""Norm and loss against the plain formulas: values, gradients, what they keep."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lvmlite.model import kernels
from lvmlite.model.kernels import IGNORE, linear_cross_entropy, mean_cross_entropy, rms_norm


def grads(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def case(n: int = 37, dim: int = 24, vocab: int = 50, ignored: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(n + ignored)
    x = torch.randn(n, dim, generator=draw).requires_grad_()
    weight = torch.randn(vocab, dim, generator=draw).requires_grad_()
    targets = torch.randint(vocab, (n,), generator=draw)
    targets[torch.randperm(n, generator=draw)[:ignored]] = IGNORE
    return x, weight, targets


@pytest.mark.parametrize("shape", [(5, 8), (2, 7, 16), (1, 1, 64), (3, 300, 256)])
def test_norm_is_the_formula(shape: tuple[int, ...]) -> None:
    """(3, 300, 256) is worked on in several pieces."""
    draw = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=draw)).requires_grad_()
    weight = torch.rand(shape[-1], generator=draw).requires_grad_()
    pull = torch.randn(shape, generator=draw)
    ours, plain = rms_norm(x, weight, 1e-6), x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(grads((ours * pull).sum(), x, weight), grads((plain * pull).sum(), x, weight)):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_norm_takes_a_gradient_of_any_layout() -> None:
    x = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weight = torch.ones(8, requires_grad=True)
    turned = rms_norm(x, weight, 1e-6).transpose(0, 1)  # its gradient arrives with other strides
    plain = F.rms_norm(x, (8,), weight, 1e-6).transpose(0, 1)
    pull = torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(2))
    for mine, theirs in zip(grads((turned * pull).sum(), x, weight), grads((plain * pull).sum(), x, weight)):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("ignored", [0, 1, 36, 37])
@pytest.mark.parametrize("chunk", [8, 512])
def test_mean_loss_and_its_gradient(ignored: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LOSS_CHUNK_CPU", chunk)
    x, weight, targets = case(ignored=ignored)
    mine = mean_cross_entropy(x, weight, targets)
    each = F.cross_entropy(x @ weight.t(), targets, ignore_index=IGNORE, reduction="none")
    theirs = each.sum() / max(1, 37 - ignored)
    torch.testing.assert_close(mine, theirs)
    for a, b in zip(grads(3 * mine, x, weight), grads(3 * theirs, x, weight)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_mean_loss_of_a_hopeless_target_is_finite() -> None:
    """Its probability underflows float32: e^-500."""
    x, weight = torch.ones(1, 1, requires_grad=True), torch.tensor([[500.0], [0.0]], requires_grad=True)
    loss = mean_cross_entropy(x, weight, torch.tensor([1]))
    assert float(loss.detach()) == 500
    assert grads(loss, x)[0].item() == 500


def test_mean_loss_is_not_finite_where_its_input_is_not() -> None:
    x, weight, targets = case()
    broken = x.detach().clone()
    broken[3, 3] = math.nan
    assert not torch.isfinite(mean_cross_entropy(broken.requires_grad_(), weight, targets))


def test_mean_loss_under_autocast_follows_the_plain_one() -> None:
    x, weight, targets = case(200, 64, 90, ignored=20)
    found = []
    for way in (mean_cross_entropy, lambda *a: linear_cross_entropy(*a).sum() / 180):
        with torch.autocast("cpu", torch.bfloat16):
            loss = way(x, weight, targets)
        found.append([loss, *grads(loss, x, weight)])
    for mine, theirs in zip(*found):
        assert mine.dtype == theirs.dtype == torch.float32
        assert float((mine - theirs).detach().norm() / theirs.detach().norm()) < 1e-2  # of bf16's 8 bits


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_mean_loss_makes_only_the_gradients_asked_for(frozen: str) -> None:
    x, weight, targets = case()
    (x if frozen == "x" else weight).requires_grad_(False)
    wanted = weight if frozen == "x" else x
    theirs = F.cross_entropy(x @ weight.t(), targets)
    torch.testing.assert_close(grads(mean_cross_entropy(x, weight, targets), wanted), grads(theirs, wanted))


class Largest(TorchDispatchMode):
    """The most elements of any tensor made."""

    found = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.found = max(self.found, tensor.untyped_storage().nbytes() // tensor.itemsize)
        return out


def test_mean_loss_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LOSS_CHUNK_CPU", 16)
    x, weight, targets = case(256, 8, 100)
    with Largest() as seen:
        mean_cross_entropy(x, weight, targets).backward()
    assert seen.found == 256 * 8  # x itself; the logits of a chunk are 16 * 100
