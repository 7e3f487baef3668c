"""Checkpoints: what is written is read back; damage, a full disk and foreign tensors are told in a line."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lvmlite
from lvmlite.train import checkpoint
from lvmlite.train.checkpoint import Checkpointer, State, latest, misfit, save, seal, steps, write_pieces
from lvmlite.train.optim import OptimConfig, adamw
from lvmlite.train.pieces import Piece

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(lvmlite.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def state(step: int, n: int = 3) -> State:
    return State(step, {"a": torch.arange(n) + step, "b/c": torch.full((2, 2), 0.5)}, {"note": f"at {step}"})


@contextmanager
def files_at_most(n_bytes: int) -> Iterator[None]:
    """The kernel refuses to let a file grow further, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    assert latest(tmp_path / "none") == (None, [])
    strided = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    save(tmp_path, State(7, {"x": strided, "y": strided[:, 1], "n": torch.tensor(3)}, {"k": [1, "two"]}))
    found, warnings = latest(tmp_path)
    assert found is not None
    assert (found.step, found.scalars, warnings) == (7, {"k": [1, "two"]}, [])
    assert found.tensors["x"].equal(strided)
    assert found.tensors["y"].equal(strided[:, 1])
    assert found.tensors["n"].item() == 3


def hold_back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Tensors are not written before the event."""
    go, save_file = threading.Event(), checkpoint.save_file

    def later(tensors: dict[str, torch.Tensor], path: Path) -> None:
        assert go.wait(timeout=30)
        save_file(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", later)
    return go


def test_the_run_goes_on_while_tensors_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = hold_back(monkeypatch)
    checkpointer, x, notes = Checkpointer(tmp_path, keep=1), torch.ones(3), {"seen": [1]}
    assert checkpointer.done()
    checkpointer.publish()  # nothing to do
    checkpointer.save(State(4, {"x": x}, notes))
    x.zero_()
    notes["seen"].append(2)
    assert (checkpointer.done(), checkpointer.failed(), steps(tmp_path)) == (False, None, [])
    go.set()
    while not checkpointer.done():
        pass
    assert steps(tmp_path) == []  # written, not yet published
    checkpointer.publish()
    found, _ = latest(tmp_path)
    assert found is not None
    assert (found.step, found.scalars) == (4, {"seen": [1]})
    assert found.tensors["x"].equal(torch.ones(3))


def test_a_save_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = hold_back(monkeypatch)
    checkpointer = Checkpointer(tmp_path, keep=2)
    checkpointer.save(state(1))
    threading.Timer(0.05, go.set).start()
    checkpointer.save(state(2))
    assert steps(tmp_path) == [1]
    checkpointer.finish()
    assert steps(tmp_path) == [1, 2]
    checkpointer.finish()  # nothing to do
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1", "step-2"]


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):
        save(tmp_path, state(step), keep=2)
    assert steps(tmp_path) == [10, 100]  # by number, not by name
    save(tmp_path, state(101), keep=1)
    assert steps(tmp_path) == [101]


def test_a_broken_later_checkpoint_does_not_push_out_a_whole_one(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, state(step), keep=1)
    (tmp_path / "step-20" / "rank-0.safetensors").write_bytes(b"")
    save(tmp_path, state(15), keep=1)  # the run went back and was interrupted on its way
    assert steps(tmp_path) == [15]
    found, warnings = latest(tmp_path)
    assert found is not None
    assert (found.step, warnings) == (15, [])


def test_remains_of_a_killed_save_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".step-3.partial").mkdir()
    (tmp_path / ".step-3.partial" / "rank-0.safetensors").write_bytes(b"half")
    assert steps(tmp_path) == []
    save(tmp_path, state(5))
    assert [p.name for p in tmp_path.iterdir()] == ["step-5"]


def save_on_two_ranks(folder: Path, step: int) -> None:
    partial = folder / f".step-{step}.partial"
    partial.mkdir()
    x = torch.arange(5.0) + step
    write_pieces(partial, 0, {"x": Piece(x[:3], (0,), (5,)), "n": Piece(torch.tensor(step), (), ())})
    write_pieces(partial, 1, {"x": Piece(x[3:], (3,), (5,))})
    seal(partial, 2, State(step, {}, {"note": f"at {step}"}))
    partial.rename(folder / f"step-{step}")


@pytest.mark.parametrize(
    "file", ["rank-0.safetensors", "rank-1.safetensors", "index.json", "state.json", "checksums.json"]
)
@pytest.mark.parametrize("damage", ["missing", "flipped", "truncated", "empty", "a folder"])
def test_the_one_before_is_used(tmp_path: Path, file: str, damage: str) -> None:
    for step in (1, 2):
        save_on_two_ranks(tmp_path, step)
    path = tmp_path / "step-2" / file
    raw = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    elif damage == "truncated":
        path.write_bytes(raw[:-3])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "a folder":
        path.mkdir()
    found, warnings = latest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert found.tensors["x"].tolist() == [1, 2, 3, 4, 5]
    (line,) = warnings
    assert str(tmp_path / "step-2") in line
    assert file in line or file == "checksums.json"
    assert "\n" not in line


@pytest.mark.parametrize("text", ["[]", "{}", '{"state.json": "0"}', '"x"', "null"])
def test_checksums_that_check_nothing_are_not_trusted(tmp_path: Path, text: str) -> None:
    save(tmp_path, state(1))
    (tmp_path / "step-1" / "checksums.json").write_text(text)
    with pytest.raises(ValueError, match=r"no checkpoint is whole \(.*checksums.json is broken\); delete the folder"):
        latest(tmp_path)


@pytest.mark.parametrize("full", ["tensors", "scalars"])
def test_a_full_disk_leaves_the_one_before(tmp_path: Path, full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, state(1))
    if full == "scalars":

        def no_space(path: Path, value: Any) -> None:
            path.write_text("{")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        monkeypatch.setattr(checkpoint, "write_json", no_space)
    with files_at_most(20_000), pytest.raises(OSError, match="cannot write the checkpoint") as caught:
        save(tmp_path, state(2, n=20_000 if full == "tensors" else 3))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'step-2'}: ")
    assert ("No space left" if full == "scalars" else "File too large") in said
    assert "\n" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]
    found, _ = latest(tmp_path)
    assert found is not None
    assert found.scalars == {"note": "at 1"}


def test_a_full_disk_is_noticed_by_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, state(1))
    go = hold_back(monkeypatch)
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(state(2, n=20_000))
    with files_at_most(20_000):
        go.set()
        while not checkpointer.done():
            pass
    assert "File too large" in str(checkpointer.failed())
    with pytest.raises(OSError, match=r"step-2: cannot write the checkpoint \(.*File too large.*\); earlier ones"):
        checkpointer.publish()
    assert checkpointer.failed() is None  # told once
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]
    checkpointer.save(state(3))  # there is room again
    checkpointer.finish()
    assert steps(tmp_path) == [1, 3]


def test_no_room_for_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OSError, match=r"step-1: cannot write the checkpoint \(.*Not a directory") as caught:
        save(tmp_path / "checkpoints", state(1))
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_thread_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "save_file", lambda tensors, path: [][0])
    with pytest.raises(IndexError):
        save(tmp_path, state(1))


def test_a_rank_that_wrote_nothing_is_missed(tmp_path: Path) -> None:
    write_pieces(tmp_path, 0, {"x": Piece(torch.zeros(3), (0,), (5,))})
    with pytest.raises(OSError, match="rank-1"):
        seal(tmp_path, 2, State(1, {}))
    write_pieces(tmp_path, 1, {})
    with pytest.raises(AssertionError, match="x is not whole"):
        seal(tmp_path, 2, State(1, {}))
    assert not (tmp_path / "checksums.json").exists()


KILLED = """
import os, sys, time, torch
from pathlib import Path
from lvmlite.train import checkpoint
folder, x = Path(sys.argv[1]), torch.rand(1000)
checkpoint.save(folder, checkpoint.State(1, {"x": x}))
save_file = checkpoint.save_file
def half(tensors, path):
    save_file(tensors, path)
    os.truncate(path, path.stat().st_size // 2)
    print("half", flush=True)
    time.sleep(60)
checkpoint.save_file = half
checkpoint.Checkpointer(folder).save(checkpoint.State(2, {"x": x}))
"""


def test_killed_while_the_thread_writes(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate(timeout=30)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".step-2.partial", "step-1"]
    found, warnings = latest(tmp_path)
    assert found is not None
    assert (found.step, warnings) == (1, [])
    save(tmp_path, state(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1", "step-2"]


def test_misfit_names_the_first_difference() -> None:
    have = {"a": torch.zeros(2), "b": torch.zeros(3, 4)}
    assert misfit(have, have) is None
    assert misfit(have, {"a": torch.ones(2)}) == "b is missing"
    assert misfit(have, have | {"c": torch.zeros(1)}) == "c is unknown"
    assert misfit(have, have | {"b": torch.zeros(4, 3)}) == "b has shape (4, 3), expected (3, 4)"


def conv_net() -> tuple[nn.Module, torch.optim.Optimizer, dict[int, str]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = adamw(net.named_parameters(), OptimConfig(lr=0.1, min_lr=0.1))
    return net, optimizer, {id(p): name for name, p in net.named_parameters()}


def learn(net: nn.Module, optimizer: torch.optim.Optimizer, n: int) -> None:
    for i in range(n):
        optimizer.zero_grad()
        net(torch.full((1, 3, 8, 8), float(i % 3) - 1)).square().sum().backward()
        optimizer.step()


def test_moments_are_laid_out_as_their_parameters(tmp_path: Path) -> None:
    """The fused step pairs parameter and moments by address: moments in another memory format would be shuffled."""
    net, optimizer, names = conv_net()
    learn(net, optimizer, 3)
    found = checkpoint.optimizer_tensors(optimizer, names)
    moments = {f"adamw/{k}": v for k, v in found.items()}
    save(tmp_path, State(3, moments | {f"net/{k}": v for k, v in net.state_dict().items()}))
    learn(net, optimizer, 3)
    again, optimizer_again, names_again = conv_net()
    read = latest(tmp_path)[0]
    assert read is not None
    again.load_state_dict(read.tensors.under("net/"))
    checkpoint.load_optimizer_tensors(optimizer_again, names_again, read.tensors.under("adamw/"))
    for values in optimizer_again.state.items():
        assert values[1]["exp_avg"].stride() == values[0].stride()
    learn(again, optimizer_again, 3)
    for name, value in net.state_dict().items():
        assert again.state_dict()[name].equal(value), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("0.weight/exp_avg_sq"), "the moments of 0.weight: exp_avg_sq is missing"),
        (lambda t: t.pop("0.weight/step"), "the moments of 0.weight: step is missing"),
        (lambda t: t.update({"0.bias/exp_avg": torch.zeros(9)}), "exp_avg has shape (9,), expected (4,)"),
        (lambda t: t.update({"9.bias/exp_avg": torch.zeros(9)}), "there is no parameter 9.bias"),
    ],
)
def test_foreign_moments_are_refused(change: Any, said: str, tmp_path: Path) -> None:
    net, optimizer, names = conv_net()
    learn(net, optimizer, 1)
    tensors = checkpoint.optimizer_tensors(optimizer, names)
    change(tensors)
    save(tmp_path, State(1, tensors))
    found, _ = latest(tmp_path)
    assert found is not None
    fresh = conv_net()
    with pytest.raises(ValueError, match=re.escape(said)):
        checkpoint.load_optimizer_tensors(fresh[1], fresh[2], found.tensors)
    assert not fresh[1].state  # all or nothing


def test_checksums_are_of_the_files(tmp_path: Path) -> None:
    target = save(tmp_path, state(4))
    assert sorted(p.name for p in target.iterdir()) == [
        "checksums.json",
        "index.json",
        "rank-0.safetensors",
        "state.json",
    ]
    assert json.loads((target / "state.json").read_text()) == {"step": 4, "note": "at 4"}
    entry = {"dtype": "float32", "shape": [2, 2], "pieces": [{"file": "rank-0.safetensors", "offset": [0, 0]}]}
    entry["pieces"][0]["size"] = [2, 2]  # type: ignore[index]
    assert json.loads((target / "index.json").read_text())["b/c"] == entry
    assert checkpoint.problem(target) is None


def test_saved_and_loaded_by_ranks(tmp_path: Path) -> None:
    program = Path(__file__).parent / "checkpoint_ranks.py"
    command = [sys.executable, str(program), str(tmp_path)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_ranks_on_gpus_agree_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 3)
    for backend, device in (("nccl", "cuda:3"), ("cpu:gloo,cuda:nccl", "cuda:3"), ("gloo", "cpu")):
        monkeypatch.setattr("torch.distributed.get_backend", lambda backend=backend: backend)
        assert str(checkpoint._device()) == device
