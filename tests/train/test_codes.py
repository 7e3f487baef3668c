"""Codes in training: placed, followed, revived, counted; of quantisers with and without a codebook."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_runs
import torch

from lvmlite.tokenizers.quantizers import build_quantizer
from lvmlite.tokenizers.quantizers.fsq import FSQConfig
from lvmlite.tokenizers.quantizers.nearest import NearestCodeConfig
from lvmlite.train.codes import Codes, perplexity
from lvmlite.train.optim import OptimConfig, adamw


def codes(**settings: Any) -> Codes:
    config = NearestCodeConfig(codebook_size=6, codebook_dim=2, ema_decay=0.5, **settings)
    made = build_quantizer(config)
    made.init_weights(torch.Generator().manual_seed(0))
    other = torch.nn.Linear(2, 2)
    return Codes(made, adamw([*made.named_parameters(), *other.named_parameters()], OptimConfig()), 0)


def latents(n: int = 64) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(3))


def test_perplexity() -> None:
    assert perplexity(torch.tensor([5.0, 5.0, 5.0, 5.0])) == pytest.approx(4)
    assert perplexity(torch.tensor([9.0, 0.0, 0.0])) == pytest.approx(1)
    assert perplexity(torch.tensor([3.0, 1.0, 0.0])) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)
    assert perplexity(torch.zeros(3)) == 0


@pytest.mark.parametrize("learn", ["ema", "gradient"])
def test_dead_codes_go_to_latents_and_forget(learn: str) -> None:
    """A learned code's moments are of where it was: they would carry it away from where it was put."""
    made = codes(learn=learn, revive_below=0.2)
    x = latents()
    made.place([x] * 2, 0)
    weight = made.quantizer.embedding.weight
    if learn == "gradient":
        made.quantizer(x).loss.backward()
        made.optimizer.step()
    x = x[x[:, 0] > 0]  # half of the codes starve
    won = made.quantizer.encode(x)
    for step in range(8):
        revived, entry = made.follow(x, won, step)
        if len(revived):
            break
    assert entry["revived"] == len(revived) > 0
    assert entry["codes_used"] == len(won.unique())
    for row in revived:
        assert (x == weight[row]).all(1).any()
    if learn == "gradient":
        moments = made.optimizer.state[weight]
        kept = torch.ones(6, dtype=torch.bool)
        kept[revived] = False
        assert moments["exp_avg"][revived].abs().max() == 0
        assert moments["exp_avg_sq"][revived].abs().max() == 0
        assert (moments["exp_avg"][kept].abs().sum(1) > 0).any()
        assert moments["step"].item() == 1


def test_settled_codes_stay_and_count_as_used() -> None:
    """The moving averages of a codebook that was read from a file are empty: it would fall onto the first batch."""
    fresh, settled = codes(), codes()
    for made in (fresh, settled):
        made.quantizer.embedding.weight.data.copy_(latents(6) * 3)
    before = settled.quantizer.embedding.weight.clone()
    settled.settle()
    assert settled.quantizer.embedding.weight.equal(before)
    x = before + 0.01
    revived, _ = settled.follow(x, settled.quantizer.encode(x), 0)
    assert len(revived) == 0
    assert torch.allclose(settled.quantizer.embedding.weight, before + 0.005)
    idle = torch.zeros(6, 2)
    revived, _ = fresh.follow(idle, torch.zeros(6, dtype=torch.long), 0)
    assert len(revived) == 5


def test_counting_changes_nothing() -> None:
    made = codes()
    before = {k: v.clone() for k, v in (made.quantizer.state_dict() | made.quantizer.training_state()).items()}
    assert made.count(latents(4), torch.tensor([1, 1, 2, 2])) == {"codes_used": 2, "perplexity": pytest.approx(2)}
    after = made.quantizer.state_dict() | made.quantizer.training_state()
    assert all(before[name].equal(after[name]) for name in before)


def test_without_a_codebook_codes_are_only_counted(data: Any) -> None:
    quantizer = build_quantizer(FSQConfig(levels=(4, 4)))
    made = Codes(quantizer, adamw(torch.nn.Linear(2, 2).named_parameters(), OptimConfig()), 0)
    made.settle()
    x = latents()
    revived, entry = made.follow(x, quantizer.encode(x), 0)
    assert len(revived) == entry["revived"] == 0
    assert entry["codes_used"] == len(quantizer.encode(x).unique())
    learner, _ = tiny_runs.tokenizer(data, start_codes_at=0, quantizer=FSQConfig(levels=(4, 4)))
    assert [piece.weight for piece in learner.micro_batches(0)] == [1.0]  # and none is placed
    loss, parts = learner.loss("generator", learner.pieces[0], 0)
    assert set(parts) == {"l1", "l2"}
    assert loss.isfinite()
    used = len(learner.tokenizer.encode(learner.pieces[0].data).unique())
    assert learner.after_step(0)["codes_used"] == used
