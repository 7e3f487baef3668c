"""The loop: accumulation, clipping, the schedule, the NaN rule, signals; on a learner small enough to check by hand."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fitted_line import Line, NoWindow, everything, kill_if, log, same, stop_if, trainer
from torch import Tensor, nn

from lvmlite.train import checkpoint
from lvmlite.train.guard import Diverged, GuardConfig
from lvmlite.train.loop import MicroBatch, TrainConfig, check_split
from lvmlite.train.meter import Window
from lvmlite.train.optim import OptimConfig
from lvmlite.train.pieces import Pieces
from lvmlite.train.signals import Interrupted


def test_it_learns_and_logs(tmp_path: Path) -> None:
    learner = Line()
    trainer(learner, tmp_path, OptimConfig(lr=0.3, min_lr=0.001, warmup_steps=0), steps=150, log_every=50).run()
    assert learner.lines["first"].weight.item() == pytest.approx(3, abs=0.05)
    entries = log(tmp_path)
    assert [entry["step"] for entry in entries] == [50, 100, 150]
    assert entries[-1]["loss"] < 1e-3
    for name in ("lr", "grad_norm", "error", "average", "points_per_s", "data_wait", "seconds", "memory_gb"):
        assert name in entries[0], name
    assert not {"mfu", "perplexity", "images_per_s"} & entries[0].keys()
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


def test_gradients_are_clipped_once_they_are_summed(tmp_path: Path) -> None:
    class Doubled(Line):
        def reduce(self, parameters: list[nn.Parameter]) -> None:
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad.mul_(2)

    optim = OptimConfig(lr=0.1, min_lr=0.1, warmup_steps=0, grad_clip=0.25)
    once, twice = Line(), Doubled()
    trainer(once, tmp_path / "once", optim, steps=1).run()
    trainer(twice, tmp_path / "twice", optim, steps=1).run()
    assert log(tmp_path / "twice")[0]["grad_norm"] == pytest.approx(2 * log(tmp_path / "once")[0]["grad_norm"])
    gradient = torch.cat([p.grad.flatten() for p in twice.lines.parameters() if p.grad is not None])
    assert gradient.norm().item() == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_step_changes_nothing(bad: float, tmp_path: Path) -> None:
    learner = Line(spoil=lambda phase, step: bad if step == 4 else 1.0)
    made, window = trainer(learner, tmp_path), NoWindow()
    for _ in range(4):
        made.one_step(window)  # type: ignore[arg-type]
    before = everything(made)
    entry = made.one_step(window)  # type: ignore[arg-type]
    assert (entry["bad_batch"], entry["bad_reason"]) == (4, "the loss is not finite")
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
    assert (entry["bad_batch"], entry["bad_reason"]) == (1, "the gradient is not finite")
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


SPIKE = {"guard": GuardConfig(max_bad_steps=2, spike=10.0), "steps": 60}


def test_a_spike_is_skipped(tmp_path: Path) -> None:
    """The gradient at step 40 is a thousand times the usual; at step 10 too, when it is not yet known what is usual."""
    made = trainer(Line(spoil=lambda phase, step: 1e3 if step in (10, 40) else 1.0), tmp_path, log_every=100, **SPIKE)
    made.run()
    bad, last = log(tmp_path)
    assert (bad["step"], bad["bad_batch"], last["step"]) == (41, 40, 60)
    assert bad["bad_reason"].startswith("the gradient norm ")
    assert bad["grad_norm"] > 10 * statistics.median(made.guard.norms["first"])
    assert len(made.guard.norms["first"]) == 59


def test_spikes_in_a_row_end_the_run(tmp_path: Path) -> None:
    made = trainer(Line(spoil=lambda phase, step: 1e3 if step >= 40 else 1.0), tmp_path, **SPIKE)
    with pytest.raises(
        Diverged, match=r"for 2 steps in a row, last at step 42 \(batch 41\); .* raise guard.spike"
    ) as e:
        made.run()
    assert "\n" not in str(e.value)


def test_what_is_usual_is_remembered(tmp_path: Path) -> None:
    """Stopped before it knows what is usual, and again right before the spike."""
    whole, spoil = Line(), {15: 3.0, 40: 1e3}
    whole.spoil = lambda phase, step: spoil.get(step, 1.0)
    trainer(whole, tmp_path / "whole", **SPIKE).run()
    for stop in (17, 39, None):
        cut = Line(spoil=lambda phase, step, stop=stop: stop_if(step == stop) * spoil.get(step, 1.0))
        made = trainer(cut, tmp_path / "cut", checkpoint_every=8, **SPIKE)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                made.run()
    made.run()
    assert same(everything(trainer(whole, tmp_path)), everything(made))
    assert [e.get("bad_batch") for e in log(tmp_path / "cut")] == [e.get("bad_batch") for e in log(tmp_path / "whole")]


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


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write of step 4 is held up until step 7; it holds what there was after step 4."""
    go_on, write_pieces = threading.Event(), checkpoint.write_pieces

    def slow(*args: Any) -> None:
        assert go_on.wait(10)
        write_pieces(*args)

    def look(phase: str, step: int) -> float:
        if step == 6:
            go_on.set()
            while not made.checkpointer.done():
                time.sleep(0.001)
        seen.append(checkpoint.steps(tmp_path / "checkpoints"))
        return 1.0

    seen: list[list[int]] = []
    monkeypatch.setattr(checkpoint, "write_pieces", slow)
    made = trainer(Line(spoil=look), tmp_path, checkpoint_every=4, keep_checkpoints=3)
    made.run()
    assert seen[:9] == [*[[]] * 7, [4], [4]]
    assert checkpoint.steps(tmp_path / "checkpoints") == [4, 8, 10]
    unbroken = trainer(Line(), tmp_path / "unbroken")
    for step in (4, 8):
        while unbroken.step < step:
            unbroken.one_step(Window(8))
        assert same(everything(unbroken), dict(Pieces(tmp_path / "checkpoints" / f"step-{step}")))


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pieces = checkpoint.write_pieces

    def full(folder: Path, *args: Any) -> None:
        if folder.name == ".step-6.partial":
            raise OSError("No space left on device")
        write_pieces(folder, *args)

    monkeypatch.setattr(checkpoint, "write_pieces", full)
    made = trainer(Line(), tmp_path, steps=50, checkpoint_every=3)
    with pytest.raises(OSError, match=r"step-6: cannot write the checkpoint .*No space left on device.*kept") as e:
        made.run()
    assert "\n" not in str(e.value)
    assert 6 < made.step <= 9  # as soon as a step's message says so, at the latest before the next is written
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-3"]


def test_a_shorter_recipe_is_refused(tmp_path: Path) -> None:
    trainer(Line(), tmp_path, steps=10).run()
    with pytest.raises(ValueError, match="was trained for 10 steps, the recipe asks for 5; ask for more") as e:
        trainer(Line(), tmp_path, steps=5).run()
    assert "\n" not in str(e.value)
    longer = Line()
    trainer(longer, tmp_path, steps=12).run()
    assert len(longer.rates) == 2


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
    rest = {name: tensor for name, tensor in found.tensors.items() if name != "extra/average"}
    checkpoint.save(folder, checkpoint.State(found.step, rest, found.scalars))
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


def test_a_signal_in_a_bad_step_loses_nothing(tmp_path: Path) -> None:
    """The step changed nothing, so what is saved is good, and the streak goes on from there."""

    def spoil(phase: str, step: int) -> float:
        return kill_if(step == 7, signal.SIGTERM) * (float("nan") if step in (6, 7) else 1.0)

    with pytest.raises(Interrupted, match="after step 8"):
        trainer(Line(spoil=spoil), tmp_path / "cut", checkpoint_every=100).run()
    found, _ = checkpoint.latest(tmp_path / "cut" / "checkpoints")
    assert found is not None
    assert (found.step, found.scalars["guard"]["bad_steps"]) == (8, 2)
    whole, cut = (
        trainer(Line(spoil=lambda phase, step: float("nan") if step in (6, 7) else 1.0), tmp_path / name)
        for name in ("whole", "cut")
    )
    whole.run()
    cut.run()
    assert same(everything(whole), everything(cut))


def test_a_signal_in_the_last_step_is_not_lost(tmp_path: Path) -> None:
    learner = Line(spoil=lambda phase, step: kill_if(step == 9, signal.SIGTERM))
    with pytest.raises(Interrupted, match="after step 10"):
        trainer(learner, tmp_path).run()
    trainer(Line(), tmp_path).run()  # nothing is left to do
    assert [entry["step"] for entry in log(tmp_path)] == list(range(1, 11))


def test_a_signal_during_the_last_checkpoint_is_not_lost(tmp_path: Path) -> None:
    made = trainer(Line(), tmp_path)
    save = made.checkpointer.save

    def interrupted_save(state: checkpoint.State) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        save(state)

    made.checkpointer.save = interrupted_save  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="stopped by SIGINT after step 10"):
        made.run()
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
            self.waited = 0.01  # half of it for data
            return super().micro_batches(step)

    trainer(Slow(), tmp_path, log_every=5).run()
    for entry in log(tmp_path):
        assert entry["seconds"] >= 0.1
        assert entry["data_wait"] == pytest.approx(0.05 / entry["seconds"], rel=6e-3)  # seconds are told in ms
        assert entry["points_per_s"] == pytest.approx(40 / entry["seconds"], rel=0.01)


def test_validation_is_logged_when_asked_for(tmp_path: Path) -> None:
    trainer(Line(), tmp_path, log_every=4, validate_every=3).run()
    assert [(e["step"], "val_loss" in e) for e in log(tmp_path)] == [
        (3, True), (4, False), (6, True), (8, False), (9, True), (10, True),
    ]  # fmt: skip


def test_device_hours_go_on_where_they_were(tmp_path: Path) -> None:
    trainer(Line(), tmp_path, steps=2).run()
    path = tmp_path / "log.jsonl"
    first = log(tmp_path)
    assert 0 <= first[0]["device_hours"] <= first[1]["device_hours"] < 1
    path.write_text("".join(json.dumps(entry | {"device_hours": 7.0 + i}) + "\n" for i, entry in enumerate(first)))
    trainer(Line(), tmp_path, steps=4).run()
    assert [int(entry["device_hours"]) for entry in log(tmp_path)] == [7, 8, 8, 8]


def test_a_decoder_is_told_its_perplexity(tmp_path: Path) -> None:
    class Words(Line):
        unit = "tokens"

        def pictures(self) -> float:
            return 2.0

    trainer(Words(), tmp_path, steps=3).run()
    for entry in log(tmp_path):
        assert entry["perplexity"] == pytest.approx(math.exp(entry["loss"]))
        assert entry["images_per_s"] == pytest.approx(entry["tokens_per_s"] / 4, rel=0.01)
    assert entry["val_perplexity"] == pytest.approx(math.exp(entry["val_loss"]))


@pytest.mark.parametrize(
    ("settings", "ranks", "said"),
    [
        ({"batch_size": 5}, 2, "a global batch of 5 does not split over 2 ranks: set batch_size to 4 or 6"),
        ({"batch_size": 3}, 8, "a global batch of 3 does not split over 8 ranks: set batch_size to 8"),
        (
            {"batch_size": 8, "micro_batch_size": 3}, 1,
            "a global batch of 8 does not split into micro batches of 3: set batch_size to 6 or 9, or "
            "micro_batch_size to 2",
        ),
        (
            {"batch_size": 24, "micro_batch_size": 16}, 2,
            "a global batch of 24 does not split over 2 ranks into micro batches of 16: set batch_size to 32, or "
            "micro_batch_size to 12",
        ),
        ({"batch_size": 24, "micro_batch_size": 6}, 2, None),
        ({"batch_size": 7}, 1, None),
    ],
)  # fmt: skip
def test_a_batch_splits_or_is_refused_in_one_line(settings: dict[str, int], ranks: int, said: str | None) -> None:
    if said is None:
        check_split(TrainConfig(**settings), ranks)
        return
    with pytest.raises(ValueError, match="^" + re.escape(said) + "$"):
        check_split(TrainConfig(**settings), ranks)


def test_the_trainer_checks_the_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="into micro batches of 7"):
        trainer(Line(), tmp_path, batch_size=8, micro_batch_size=7)
