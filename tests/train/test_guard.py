"""The rule for bad steps by itself, and the clipping of plain and sharded gradients."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lvmlite.train.guard import KNOWN, USUAL, Diverged, Guard, GuardConfig, clip_gradients

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("loss", "norm", "said"),
    [
        (NAN, 1.0, "the loss is not finite"),
        (-INF, NAN, "the loss is not finite"),
        (1.0, NAN, "the gradient is not finite"),
        (1.0, INF, "the gradient is not finite"),
        (1.0, 1e30, None),
    ],
)
def test_what_is_bad(loss: float, norm: float, said: str | None) -> None:
    assert Guard(GuardConfig()).problem("only", loss, norm) == said


def test_what_is_a_spike() -> None:
    guard = Guard(GuardConfig(spike=4.0))
    for i in range(KNOWN):
        assert guard.problem("one", 1.0, 1e9) is None
        guard.note(None, {"one": 1.0 + i, "two": 100.0})
    assert guard.problem("one", 1.0, 42.0) is None  # 4 x the median of 1 .. 20
    said = "the gradient norm 42.1 is above 4 times the usual 10.5"
    assert guard.problem("one", 1.0, 42.1) == said
    assert guard.problem("two", 1.0, 42.1) is None
    guard.note(said, {"one": 42.1, "two": 100.0})
    assert guard.problem("one", 1.0, 42.1) == said  # a spike does not become usual
    assert len(guard.norms["one"]) == len(guard.norms["two"]) == KNOWN
    for _ in range(USUAL):
        guard.note(None, {"one": 20.0, "two": 1.0})
    assert guard.norms["one"] == [20.0] * USUAL
    assert guard.problem("one", 1.0, 79.0) is None


def test_only_bad_steps_in_a_row_end_a_run() -> None:
    guard, bad = Guard(GuardConfig(max_bad_steps=3)), "the loss is not finite"
    for problem in (bad, bad, None, bad, bad):
        guard.note(problem, {"only": 1.0})
        assert guard.verdict("stage one", 10) is None
    guard.note("the gradient is not finite", {})
    found = guard.verdict("stage one", 11)
    assert isinstance(found, Diverged)
    assert str(found) == (
        "stage one: the gradient was not finite for 3 steps in a row, last at step 11 (batch 10); the last checkpoint, "
        "if there is one, is kept. Check the data; raise guard.max_bad_steps to go on, or start anew with a lower "
        "learning rate in another out"
    )
    assert guard.norms == {}  # there is no rule for spikes


def test_it_is_the_same_after_json() -> None:
    guard = Guard(GuardConfig(spike=2.0))
    for i in range(30):
        guard.note(None, {"only": math.sin(i) + 2 / 3})
    guard.note("the loss is not finite", {})
    again = Guard(guard.config)
    again.load(json.loads(json.dumps(guard.state())))
    assert again.norms == guard.norms
    assert again.bad_steps == 1
    assert again.problem("only", 1.0, 5.0) == guard.problem("only", 1.0, 5.0) is not None


@pytest.mark.parametrize("spike", [0.5, 1.0])
def test_a_factor_that_would_skip_usual_steps_is_refused(spike: float) -> None:
    with pytest.raises(ValueError, match="give a factor above 1"):
        GuardConfig(spike=spike)


@pytest.mark.parametrize("limit", [0.0, 0.5, 100.0])
def test_clipping_equals_pytorchs(limit: float) -> None:
    torch.manual_seed(0)
    mine, theirs = ([nn.Parameter(torch.zeros(n, 3)) for n in (1, 4, 2)] for _ in range(2))
    for p, q in list(zip(mine, theirs))[:2]:  # the last has no gradient
        p.grad = torch.randn(p.shape)
        q.grad = p.grad.clone()
    norm = clip_gradients(mine, limit)
    assert norm.equal(nn.utils.clip_grad_norm_(theirs, limit or INF))
    for p, q in zip(mine, theirs):
        assert p.grad is q.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-6)  # type: ignore[arg-type]
    assert clip_gradients([nn.Parameter(torch.ones(2))], 1.0).item() == 0


def test_sharded_gradients_count_whole(server: Any, tmp_path: Path) -> None:
    """Two ranks: sharded, replicated and plain gradients of one net, on two meshes, are clipped as plain ones are."""
    assert server.run("clipped", tmp_path, ranks=2) == 0, (tmp_path / "output.txt").read_text()
