"""The loop: accumulation, clipping, the schedule, the NaN rule, signals; on a learner small enough to check by hand."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lvmlite.train import checkpoint
from lvmlite.train.loop import MAX_BAD_STEPS, Diverged, Interrupted, MicroBatch, TrainConfig, Trainer
from lvmlite.train.optim import OptimConfig

CPU = torch.device("cpu")
OPTIM = OptimConfig(lr=0.1, min_lr=0.01, warmup_steps=2, weight_decay=0.0, grad_clip=0.0)


class Line:
    """Fits y = w x + b to the points of each step, eight of them; two phases if asked, the second fits another line."""

    unit = "points"

    def __init__(
        self, pieces: int = 1, phases: tuple[str, ...] = ("first",), spoil: Callable[..., float] | None = None
    ):
        self.lines = nn.ModuleDict({name: nn.Linear(1, 1) for name in phases})
        for line in self.lines.values():
            nn.init.constant_(line.weight, 0.5)
            nn.init.zeros_(line.bias)
        self.modules: dict[str, nn.Module] = {"lines": self.lines}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.AdamW(line.parameters(), lr=1.0, weight_decay=0.0) for name, line in self.lines.items()
        }
        self.optim = OPTIM
        self.pieces, self.spoil = pieces, spoil or (lambda phase, step: 1.0)
        self.average = torch.zeros(1)
        self.rates: list[float] = []

    def phases(self, step: int) -> list[str]:
        return list(self.lines)

    def schedule(self, phase: str) -> tuple[OptimConfig, int]:
        return self.optim, 0

    def micro_batches(self, step: int) -> list[MicroBatch]:
        x = torch.linspace(-1, 1, 8) + step / 7
        return [MicroBatch(piece, len(piece) / len(x)) for piece in x.tensor_split(self.pieces)]

    def loss(self, phase: str, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = micro_batch.data[:, None]
        error = (self.lines[phase](x) - (3 * x - 1)).abs()
        return error.square().mean() * self.spoil(phase, step), {"error": error.mean()}

    def after_step(self, step: int) -> dict[str, float]:
        self.rates += [group["lr"] for group in self.optimizers["first"].param_groups]
        self.average.lerp_(self.lines["first"].weight.detach()[0], 0.5)
        return {"average": float(self.average)}

    def validate(self) -> dict[str, float]:
        return {"val_loss": float(self.lines["first"].bias.detach() ** 2)}

    def size(self) -> int:
        return 8

    def extra_state(self) -> dict[str, Tensor]:
        return {"average": self.average}


def trainer(learner: Line, folder: Path, optim: OptimConfig = OPTIM, **settings: Any) -> Trainer:
    config = TrainConfig(**({"steps": 10, "log_every": 1, "precision": "fp32", "optim": optim} | settings))
    learner.optim = optim
    return Trainer(learner, config, folder, CPU, quiet=True)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def everything(made: Trainer) -> dict[str, Tensor]:
    """A copy of all that a step may change."""
    return {name: tensor.clone() for name, tensor in made.state().tensors.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_it_learns_and_logs(tmp_path: Path) -> None:
    learner = Line()
    trainer(learner, tmp_path, OptimConfig(lr=0.3, min_lr=0.001, warmup_steps=0), steps=150, log_every=50).run()
    assert learner.lines["first"].weight.item() == pytest.approx(3, abs=0.05)
    entries = log(tmp_path)
    assert [entry["step"] for entry in entries] == [50, 100, 150]
    assert entries[-1]["loss"] < 1e-3
    for name in ("lr", "grad_norm", "error", "average", "points_per_s", "data_wait", "seconds", "memory_gb"):
        assert name in entries[0], name
    assert "val_loss" not in entries[0]
    assert entries[-1]["val_loss"] == pytest.approx(learner.lines["first"].bias.item() ** 2)


def test_the_first_numbers_are_right(tmp_path: Path) -> None:
    learner = Line()
    trainer(learner, tmp_path, steps=1).run()
    x = torch.linspace(-1, 1, 8)
    error = 0.5 * x - (3 * x - 1)
    (entry,) = log(tmp_path)
    assert entry["loss"] == pytest.approx(error.square().mean().item(), rel=1e-5)
    assert entry["error"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
    gradient = torch.stack(((2 * error * x).mean(), (2 * error).mean()))
    assert entry["grad_norm"] == pytest.approx(gradient.norm().item(), rel=1e-5)
    assert entry["lr"] == pytest.approx(0.05)
    # the first step of Adam is lr in the direction of the gradient's sign
    assert learner.lines["first"].weight.item() == pytest.approx(0.5 - 0.05 * gradient[0].sign().item(), rel=1e-4)


@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_pieces_sum_to_the_batch(pieces: int, tmp_path: Path) -> None:
    whole, split = Line(), Line(pieces)
    trainer(whole, tmp_path / "whole").run()
    trainer(split, tmp_path / "split").run()
    for a, b in zip(log(tmp_path / "whole"), log(tmp_path / "split")):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["error"] == pytest.approx(b["error"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-5)
    for p, q in zip(whole.lines.parameters(), split.lines.parameters()):
        assert torch.allclose(p, q, rtol=1e-5)


def test_every_step_gets_its_rate(tmp_path: Path) -> None:
    learner = Line()
    trainer(learner, tmp_path, steps=6).run()
    assert learner.rates == [entry["lr"] for entry in log(tmp_path)]
    assert learner.rates[:3] == pytest.approx([0.05, 0.1, 0.1])
    assert learner.rates[4] == pytest.approx(0.055)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    learner = Line()
    trainer(learner, tmp_path, OptimConfig(lr=0.1, min_lr=0.1, warmup_steps=0, grad_clip=0.25), steps=1).run()
    gradient = torch.cat([p.grad.flatten() for p in learner.lines.parameters() if p.grad is not None])
    assert gradient.norm().item() == pytest.approx(0.25, rel=1e-4)
    assert log(tmp_path)[0]["grad_norm"] > 1  # before clipping


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_step_changes_nothing(bad: float, tmp_path: Path) -> None:
    learner = Line(spoil=lambda phase, step: bad if step == 4 else 1.0)
    made, window = trainer(learner, tmp_path), NoWindow()
    for _ in range(4):
        made.one_step(window)  # type: ignore[arg-type]
    before = everything(made)
    entry = made.one_step(window)  # type: ignore[arg-type]
    assert entry["bad_batch"] == 4
    assert "average" not in entry
    assert same(before, everything(made))
    entry = made.one_step(window)  # type: ignore[arg-type]
    assert "bad_batch" not in entry
    assert not same(before, everything(made))


def test_a_bad_gradient_is_a_bad_step(tmp_path: Path) -> None:
    class Steep(Line):
        def loss(self, phase: str, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
            loss, parts = super().loss(phase, micro_batch, step)
            zero = (self.lines[phase].weight * 0).sum()  # sqrt is 0 at 0, its slope is not finite
            return loss + (zero.sqrt() if step == 1 else 0), parts

    learner = Steep()
    made, window = trainer(learner, tmp_path), NoWindow()
    made.one_step(window)  # type: ignore[arg-type]
    before = everything(made)
    entry = made.one_step(window)  # type: ignore[arg-type]
    assert entry["loss"] < 100
    assert entry["bad_batch"] == 1
    assert same(before, everything(made))


def test_a_bad_second_phase_undoes_the_first(tmp_path: Path) -> None:
    bad = Line(phases=("first", "second"), spoil=lambda phase, step: float("nan") if phase == "second" else 1.0)
    made = trainer(bad, tmp_path)
    before = everything(made)
    entry = made.one_step(NoWindow())  # type: ignore[arg-type]
    assert same(before, everything(made))
    assert entry["loss"] > 0
    assert entry["bad_batch"] == 0
    good = Line(phases=("first", "second"))
    entry = trainer(good, tmp_path / "good").one_step(NoWindow())  # type: ignore[arg-type]
    assert entry["loss"] == entry["second_loss"]
    assert good.lines["first"].weight.equal(good.lines["second"].weight)
    assert good.lines["first"].weight.item() != 0.5


def test_a_bad_step_is_logged_and_the_run_goes_on(tmp_path: Path) -> None:
    learner = Line(spoil=lambda phase, step: float("nan") if step in (3, 5, 6, 7, 8) else 1.0)
    trainer(learner, tmp_path, log_every=10).run()
    entries = log(tmp_path)
    assert [entry["step"] for entry in entries] == [4, 6, 7, 8, 9, 10]
    assert [entry.get("bad_batch") for entry in entries] == [3, 5, 6, 7, 8, None]
    assert entries[0]["loss"] is None
    assert len(learner.rates) == 5
    assert checkpoint.steps(tmp_path / "checkpoints") == [10]


def test_a_run_of_bad_steps_ends_the_run(tmp_path: Path) -> None:
    learner = Line(spoil=lambda phase, step: float("inf") if step >= 6 else 1.0)
    with pytest.raises(Diverged, match=r"not finite for 5 steps in a row, last at step 11 \(batch 10\)") as caught:
        trainer(learner, tmp_path, steps=50, checkpoint_every=4).run()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    found, _ = checkpoint.latest(tmp_path / "checkpoints")
    assert found is not None
    assert found.step == 4  # none is written among the bad steps: what led there may have been bad already
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    assert [entry.get("bad_batch") for entry in log(tmp_path)][6:] == [6, 7, 8, 9, 10]
    # the same command again ends at the same step
    again = trainer(Line(spoil=learner.spoil), tmp_path, steps=50, checkpoint_every=4)
    with pytest.raises(Diverged, match="last at step 11"):
        again.run()
    assert MAX_BAD_STEPS == 5


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole = Line(phases=("first", "second"))
    trainer(whole, tmp_path / "whole", steps=9).run()
    cut = Line(phases=("first", "second"), spoil=lambda phase, step: stop_if(step == 6))
    with pytest.raises(KeyboardInterrupt):
        trainer(cut, tmp_path / "cut", steps=9, checkpoint_every=4).run()
    again = Line(phases=("first", "second"))
    made = trainer(again, tmp_path / "cut", steps=9, checkpoint_every=4)
    made.run()
    assert same(everything(trainer(whole, tmp_path)), everything(made))
    assert again.average.equal(whole.average)
    assert len(again.rates) == 5


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    trainer(Line(), tmp_path).run()
    before = (tmp_path / "log.jsonl").read_text()
    learner = Line()
    trainer(learner, tmp_path).run()
    assert learner.rates == []
    assert learner.lines["first"].weight.item() != 0.5  # but it holds the weights
    assert (tmp_path / "log.jsonl").read_text() == before


def test_a_checkpoint_of_another_shape_is_one_line(tmp_path: Path) -> None:
    trainer(Line(), tmp_path).run()
    with pytest.raises(
        ValueError, match=r"step-10: does not fit .*module/lines\.second\.weight is missing.*; delete"
    ) as e:
        trainer(Line(phases=("first", "second")), tmp_path).run()
    assert "\n" not in str(e.value)
    folder = tmp_path / "checkpoints"
    found, _ = checkpoint.latest(folder)
    assert found is not None
    del found.tensors["extra/average"]
    checkpoint.save(folder, found)
    with pytest.raises(ValueError, match="extra/average is missing"):
        trainer(Line(), tmp_path).run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_step(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    learner = Line(spoil=lambda phase, step: kill_if(step == 3, number))
    with pytest.raises(Interrupted, match=f"stopped by {number.name} after step 4; run the same command") as caught:
        trainer(learner, tmp_path).run()
    assert caught.value.signal == number
    assert signal.getsignal(number) is before
    assert checkpoint.steps(tmp_path / "checkpoints") == [4]


def test_a_signal_in_the_last_step_is_not_lost(tmp_path: Path) -> None:
    learner = Line(spoil=lambda phase, step: kill_if(step == 9, signal.SIGTERM))
    with pytest.raises(Interrupted, match="after step 10"):
        trainer(learner, tmp_path).run()
    trainer(Line(), tmp_path).run()  # nothing is left to do
    assert [entry["step"] for entry in log(tmp_path)] == list(range(1, 11))


def test_a_signal_during_the_last_checkpoint_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save

    def interrupted_save(*args: Any) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return save(*args)

    monkeypatch.setattr(checkpoint, "save", interrupted_save)
    with pytest.raises(Interrupted, match="stopped by SIGINT after step 10"):
        trainer(Line(), tmp_path).run()
    assert checkpoint.steps(tmp_path / "checkpoints") == [10]


def test_a_second_signal_gets_through(tmp_path: Path) -> None:
    def twice(phase: str, step: int) -> float:
        kill_if(step == 3, signal.SIGINT)
        return kill_if(step == 3, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(Line(spoil=twice), tmp_path).run()
    assert checkpoint.steps(tmp_path / "checkpoints") == []


def test_it_runs_outside_the_main_thread(tmp_path: Path) -> None:
    thread = threading.Thread(target=trainer(Line(), tmp_path).run)
    thread.start()
    thread.join()
    assert len(log(tmp_path)) == 10


def test_waiting_for_data_is_told(tmp_path: Path) -> None:
    class Slow(Line):
        def micro_batches(self, step: int) -> list[MicroBatch]:
            time.sleep(0.02)
            return super().micro_batches(step)

    trainer(Slow(), tmp_path, log_every=5).run()
    for entry in log(tmp_path):
        assert entry["seconds"] >= 0.1
        assert 0 < entry["data_wait"] <= 1
        assert entry["data_wait"] * entry["seconds"] >= 0.099
        assert entry["points_per_s"] == pytest.approx(40 / entry["seconds"], rel=0.01)


def test_validation_is_logged_when_asked_for(tmp_path: Path) -> None:
    trainer(Line(), tmp_path, log_every=4, validate_every=3).run()
    assert [(e["step"], "val_loss" in e) for e in log(tmp_path)] == [
        (3, True), (4, False), (6, True), (8, False), (9, True), (10, True),
    ]  # fmt: skip


class NoWindow:
    def add(self, seconds: float, waited: float) -> None: ...


def kill_if(now: bool, number: int) -> float:
    if now:
        os.kill(os.getpid(), number)
    return 1.0


def stop_if(now: bool) -> float:
    if now:
        raise KeyboardInterrupt
    return 1.0
