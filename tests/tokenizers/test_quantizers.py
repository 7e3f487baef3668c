"""Nearest code: the search, the gradient, the moving averages, k-means placement and revival."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lvmlite.tokenizers.quantizers import nearest as quantizers
from lvmlite.tokenizers.quantizers.nearest import NearestCode, NearestCodeConfig


def quantizer(k: int = 12, c: int = 3, seed: int = 0, **settings: float) -> NearestCode:
    made = NearestCode(NearestCodeConfig(codebook_size=k, codebook_dim=c, **settings))  # type: ignore[arg-type]
    made.embedding.weight.copy_(draw(k, c, seed=seed))
    return made


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk", [1, 40, 1 << 25])
def test_the_nearest_code_is_found(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against distances of differences in float64; a code may differ only where the two best lie within 1e-5."""
    monkeypatch.setattr(quantizers, "SEARCH_CHUNK", chunk)
    made, x = quantizer(40, 5), draw(701, 5, seed=1)
    distances = torch.cdist(x.double(), made.embedding.weight.double(), compute_mode="donot_use_mm_for_euclid_dist")
    found, best = made.encode(x), distances.argmin(1)
    assert found.dtype == torch.int64
    two = distances.topk(2, largest=False).values
    clear = two[:, 1] - two[:, 0] > 1e-5
    assert clear.float().mean() > 0.99
    assert found[clear].equal(best[clear])


def test_chunks_are_small_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = quantizer(40, 5), draw(95, 5, seed=1)
    whole, seen = made.encode(x), []
    addmm = torch.addmm
    monkeypatch.setattr(quantizers, "SEARCH_CHUNK", 400)
    monkeypatch.setattr(torch, "addmm", lambda a, b, c, **kw: seen.append(len(b)) or addmm(a, b, c, **kw))
    assert made.encode(x).equal(whole)
    assert seen == [10] * 9 + [5]


def test_ties_go_to_the_lower_code() -> None:
    made = quantizer(4, 2)
    made.embedding.weight.copy_(torch.tensor([[9.0, 9.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
    assert made.encode(torch.tensor([[1.0, 0.0], [0.0, 0.0], [-2.0, 0.0]])).tolist() == [1, 1, 3]


def test_nothing_in_nothing_out() -> None:
    assert quantizer().encode(torch.zeros(0, 3)).shape == (0,)


def test_the_gradient_passes_straight() -> None:
    made = quantizer(commitment_weight=0.0)
    x = draw(20, 3, seed=1).requires_grad_()
    out = made(x)
    assert torch.allclose(out.latents, made.embedding.weight[out.codes], atol=1e-6)
    upstream = draw(20, 3, seed=2)
    (gradient,) = torch.autograd.grad((out.latents * upstream).sum() + out.loss, x)
    assert gradient.equal(upstream)
    assert made.embedding.weight.grad is None
    assert not made.embedding.weight.requires_grad


def test_the_commitment_loss() -> None:
    made = quantizer(2, 2, commitment_weight=0.5)
    made.embedding.weight.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    x = torch.tensor([[1.0, 2.0], [10.0, 13.0]], requires_grad=True)
    out = made(x)
    assert out.codes.tolist() == [0, 1]
    assert out.loss.item() == 0.5 * (1 + 4 + 0 + 9) / 4
    (gradient,) = torch.autograd.grad(out.loss, x)
    assert gradient.tolist() == [[0.25, 0.5], [0.0, 0.75]]


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_codebook_is_a_moving_average(decay: float) -> None:
    """Against counts and sums held for each code alone, in numpy."""
    made = quantizer(8, 2, ema_decay=decay, revive_below=0.0)
    made.place(draw(100, 2, seed=3), torch.Generator().manual_seed(0))
    use, total = made.use.numpy().astype(float).copy(), made.total.numpy().astype(float).copy()
    for step in range(6):
        x = draw(30, 2, seed=10 + step)
        codes = made.encode(x)
        made.update(*made.tally(x, codes))
        for code in range(8):
            won = x.numpy()[codes.numpy() == code]
            use[code] = decay * use[code] + (1 - decay) * len(won)
            total[code] = decay * total[code] + (1 - decay) * won.sum(0)
        np.testing.assert_allclose(made.use.numpy(), use, rtol=1e-4)
        np.testing.assert_allclose(made.total.numpy(), total, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(made.embedding.weight.numpy(), total / use[:, None], rtol=1e-4, atol=1e-5)


def test_the_average_settles_on_what_a_code_wins() -> None:
    made = quantizer(2, 1, ema_decay=0.5)
    made.embedding.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    x = torch.tensor([[-3.0], [-5.0], [2.0]])
    for _ in range(30):
        made.update(*made.tally(x, made.encode(x)))
    assert made.embedding.weight.flatten().tolist() == pytest.approx([-4.0, 2.0], rel=1e-5)
    assert made.use.tolist() == pytest.approx([2.0, 1.0], rel=1e-5)


def test_a_code_that_never_wins_stays_where_it_is() -> None:
    """Without revival its average decays below what float32 holds; it must not slide to zero or to NaN."""
    made = quantizer(2, 2, ema_decay=0.5, revive_below=0.0)
    made.place(torch.tensor([[1.0, 1.0], [9.0, 9.0]]), torch.Generator().manual_seed(0))
    x = torch.full((4, 2), 1.0)
    for _ in range(400):
        assert made.update(*made.tally(x, made.encode(x))).tolist() == []
    assert sorted(made.embedding.weight[:, 0].tolist()) == pytest.approx([1.0, 9.0], rel=1e-3)


@pytest.mark.parametrize(("n", "k"), [(400, 32), (2000, 100), (40, 32)])
def test_k_means_leaves_no_dead_code(n: int, k: int) -> None:
    made, x = quantizer(k, 3), draw(n, 3, seed=4)
    first = draw(k, 3, seed=5)
    made.embedding.weight.copy_(first)
    made.place(x, torch.Generator().manual_seed(0))
    codes = made.encode(x)
    assert len(codes.unique()) == k
    assert made.use.tolist() == [1.0] * k
    assert made.total.equal(made.embedding.weight)
    error = (x - made.embedding.weight[codes]).square().mean()
    made.embedding.weight.copy_(x[:k])
    assert error < 0.8 * (x - x[:k][made.encode(x)]).square().mean()  # better than k of the latents


def test_k_means_finds_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    x = (centres[:, None] + 0.1 * draw(3, 50, 2)).reshape(-1, 2)
    made = quantizer(3, 2)
    made.place(x, torch.Generator().manual_seed(1))
    found = torch.tensor(sorted(made.embedding.weight.tolist()))
    assert torch.allclose(found, torch.tensor([[0.0, 0.0], [0.0, 20.0], [20.0, 0.0]]), atol=0.1)


def test_a_large_codebook_lives_on_few_latents() -> None:
    """512 codes, each on a cluster of its own, and 16 latents a step: each wins once in 32 steps, and none is dead."""
    centres = 10 * draw(512, 4, seed=6)
    made = quantizer(512, 4, ema_decay=0.99)
    made.place(centres.repeat(2, 1), torch.Generator().manual_seed(0))
    generator, revived = torch.Generator().manual_seed(1), 0
    for _ in range(800):
        x = centres[torch.randint(512, (16,), generator=generator)]
        revived += len(made.update(*made.tally(x, made.encode(x))))
    assert revived <= 8
    assert (centres - made.embedding.weight[made.encode(centres)]).norm(dim=1).median() < 0.1


def test_placing_many_codes_takes_them_as_they_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond `PLACING` distances no round of k-means is made: the codes are latents."""
    monkeypatch.setattr(quantizers, "PLACING", 100 * 32 - 1)
    made, x = quantizer(32, 3), draw(100, 3)
    made.place(x, torch.Generator().manual_seed(0))
    assert torch.cdist(made.embedding.weight, x).min(1).values.max() < 1e-3
    assert len(made.embedding.weight.unique(dim=0)) == 32


def test_placing_repeats() -> None:
    a, b, x = quantizer(16, 3, seed=1), quantizer(16, 3, seed=2), draw(90, 3)
    for made in (a, b):
        made.place(x, torch.Generator().manual_seed(7))
    assert a.embedding.weight.equal(b.embedding.weight)


def test_more_codes_than_latents() -> None:
    made = quantizer(20, 3)
    made.place(draw(6, 3), torch.Generator().manual_seed(0))
    assert made.embedding.weight.isfinite().all()


def test_revival_moves_exactly_the_dead() -> None:
    made = quantizer(5, 2, ema_decay=0.5, revive_below=0.3)
    made.embedding.weight.copy_(torch.arange(10.0).reshape(5, 2))
    made.use.copy_(torch.tensor([1.0, 0.5, 1.0, 0.7, 0.1]))
    made.total.copy_(made.embedding.weight * made.use[:, None])
    count, summed = torch.tensor([0.0, 0.0, 1.0, 0.0, 4.0]), torch.zeros(5, 2)
    summed[2], summed[4] = made.embedding.weight[2], 4 * made.embedding.weight[4]
    dead = made.update(count, summed)  # use: 0.5, 0.25, 1.0, 0.35, 2.05
    assert dead.tolist() == [1]
    before = made.embedding.weight.clone()
    assert torch.allclose(before, torch.arange(10.0).reshape(5, 2))
    made.revive(dead, torch.tensor([[70.0, 71.0]]))
    moved = (made.embedding.weight != before).any(1)
    assert moved.tolist() == [False, True, False, False, False]
    assert made.embedding.weight[1].tolist() == [70.0, 71.0]
    assert made.use[1].item() == 1.0
    assert made.total[1].tolist() == [70.0, 71.0]


def test_the_search_is_in_float32_under_autocast() -> None:
    made, x = quantizer(64, 8), draw(500, 8, seed=1)
    expected = made.encode(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert made(x).codes.equal(expected)


def test_averages_are_not_published() -> None:
    """A tokenizer folder holds the codebook; what training needs beside it is in the checkpoint."""
    assert list(quantizer().state_dict()) == ["embedding.weight"]
