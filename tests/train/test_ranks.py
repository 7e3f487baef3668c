"""Two processes train what one would: gradients, losses, codebook and validation are those of the whole batch."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lvmlite.train import checkpoint

SETTINGS = {"steps": 20, "log_every": 1, "validate_every": 10}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    found, _ = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    return found.tensors


@pytest.mark.parametrize(("what", "micro"), [("language", None), ("language", 1), ("tokenizer", 2), ("gan", 2)])
def test_two_ranks_equal_one(what: str, micro: int | None, server: Any, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert server.run(what, one, **SETTINGS) == 0
    assert server.run(what, two, ranks=2, micro_batch_size=micro, **SETTINGS) == 0, (two / "output.txt").read_text()
    assert len(log(one)) == len(log(two)) == 20
    for a, b in zip(log(one), log(two)):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        for name in [
            n for n in a if n.startswith("val") or n in ("l1", "l2", "commitment", "lpips", "adaptive_weight")
        ]:
            assert a[name] == pytest.approx(b[name], rel=1e-4), name
        assert [a.get(n) for n in ("revived", "codes_used")] == [b.get(n) for n in ("revived", "codes_used")]
    mine, theirs = weights(one), weights(two)
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.allclose(mine[name], theirs[name], atol=1e-3), name
    if what != "language":
        assert sum(entry.get("revived", 0) for entry in log(one)) > 0


def test_a_signal_to_one_rank_stops_both(server: Any, tmp_path: Path) -> None:
    """Both save after the same step: none is left waiting for the other."""
    settings = {"ranks": 2, "steps": 300, "log_every": 1}
    pids = server.start("language", tmp_path, **settings)
    try:
        deadline = time.monotonic() + 60
        first = tmp_path / "log.jsonl"  # its first line is of a step that both have taken: both listen for signals
        while time.monotonic() < deadline and not (first.exists() and first.stat().st_size):
            time.sleep(0.005)
        os.kill(pids[1], signal.SIGTERM)
    finally:
        codes = server.wait()
    assert codes == [3, 3]
    assert checkpoint.steps(tmp_path / "checkpoints") == [len(log(tmp_path))]
    assert len(log(tmp_path)) < 300
