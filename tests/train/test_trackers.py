"""TensorBoard's events are read back; Weights & Biases is stood in for by a module that notes what it is told."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from fitted_line import Line, log, stop_if, trainer

from lvmlite import recipe
from lvmlite.recipe import RecipeError
from lvmlite.train.loop import TrainConfig, Trainer
from lvmlite.train.trackers import check_trackers, numbers


def events(folder: Path) -> dict[str, dict[int, list[float]]]:
    """name -> step -> values, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    curves: dict[str, dict[int, list[float]]] = {}
    for name in found.Tags()["scalars"]:
        for event in found.Scalars(name):
            curves.setdefault(name, {}).setdefault(event.step, []).append(event.value)
    return curves


def test_tensorboard_holds_the_log(tmp_path: Path) -> None:
    nan = Line(spoil=lambda phase, step: float("nan") if step == 4 else 1.0)
    trainer(nan, tmp_path, track=["tensorboard"]).run()
    found = events(tmp_path)
    for entry in log(tmp_path):
        for name in ("loss", "lr", "grad_norm", "points_per_s"):
            value = found[name].get(entry["step"])
            assert value == (None if entry[name] is None else [pytest.approx(entry[name], rel=1e-6)]), name
    assert list(found["loss"]) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert found["bad_batch"] == {5: [4.0]}
    assert found["val_loss"].keys() == {10}
    assert not {"step", "bad_reason"} & found.keys()


def test_tensorboard_shows_no_step_twice(tmp_path: Path) -> None:
    """Killed after step 6, it goes on from the checkpoint of step 4."""
    settings: dict[str, Any] = {"checkpoint_every": 4, "track": ["tensorboard"]}
    with pytest.raises(KeyboardInterrupt):
        trainer(Line(spoil=lambda phase, step: stop_if(step == 6)), tmp_path, **settings).run()
    assert list(events(tmp_path)["loss"]) == [1, 2, 3, 4, 5, 6]
    trainer(Line(), tmp_path, **settings).run()
    found = events(tmp_path)["loss"]
    assert {step: len(values) for step, values in found.items()} == dict.fromkeys(range(1, 11), 1)
    assert [found[entry["step"]] for entry in log(tmp_path)] == [
        [pytest.approx(entry["loss"], rel=1e-6)] for entry in log(tmp_path)
    ]


class FakeRun:
    def __init__(self, settings: dict[str, Any]):
        self.settings, self.lines, self.finished = settings, [], False

    def log(self, entry: dict[str, float], step: int) -> None:
        assert not self.finished
        self.lines.append((step, entry))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    made: list[FakeRun] = []

    def init(**settings: Any) -> FakeRun:
        made.append(FakeRun(settings))
        return made[-1]

    module: Any = types.ModuleType("wandb")
    module.__spec__, module.init = importlib.machinery.ModuleSpec("wandb", None), init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return made


def test_wandb_is_told_each_line(runs: list[FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"log_every": 5, "track": ["wandb", "wandb"]}
    trainer(Line(), tmp_path / "run", **settings).run()
    (run,) = runs
    assert run.finished
    assert [step for step, _ in run.lines] == [5, 10]
    assert [entry for _, entry in run.lines] == [numbers(entry) for entry in log(tmp_path / "run")]
    assert run.settings["config"]["batch_size"] == 64
    assert run.settings["config"]["optim"]["lr"] == 0.1
    assert run.settings["resume"] == "allow"
    assert run.settings["project"] == "lvmlite"
    assert Path(run.settings["dir"]) == tmp_path / "run"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    trainer(Line(), tmp_path / "run", **settings).run()  # the same command again
    trainer(Line(), tmp_path / "other", **settings).run()
    first, again, other = (run.settings["id"] for run in runs)
    assert first == again != other
    assert runs[1].settings["project"] == "mine"
    assert runs[1].lines == []


def test_it_is_closed_when_training_fails(runs: list[FakeRun], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trainer(Line(spoil=lambda phase, step: stop_if(step == 3)), tmp_path, track=["wandb"]).run()
    assert runs[0].finished
    assert len(runs[0].lines) == 3


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_line_before_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    said = rf"^track: {name} is not installed: pip install 'lvmlite\[track\]', or leave it out of track$"
    with pytest.raises(ValueError, match=said):
        Trainer(Line(), TrainConfig(track=[name]), tmp_path / "run", torch.device("cpu"))  # type: ignore[list-item]
    assert not (tmp_path / "run").exists()
    check_trackers([])


def test_an_unknown_tracker_is_a_mistake_in_the_recipe() -> None:
    assert recipe.build(TrainConfig, {"track": ["tensorboard"]}).track == ["tensorboard"]
    with pytest.raises(RecipeError, match=r"track.*tensorboard"):
        recipe.build(TrainConfig, {"track": ["mlflow"]})


def test_only_numbers_are_curves() -> None:
    entry = {"step": 3, "loss": 1.5, "n": 2, "bad_reason": "x", "nan": float("nan"), "inf": float("inf"), "none": None}
    assert numbers(entry) == {"loss": 1.5, "n": 2}
