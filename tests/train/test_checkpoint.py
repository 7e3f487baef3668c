"""Checkpoints: what is written is read back; damage, a full disk and foreign tensors are told in a line."""

from __future__ import annotations

import errno
import json
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lvmlite.train import checkpoint
from lvmlite.train.checkpoint import State, latest, misfit, save, steps
from lvmlite.train.optim import OptimConfig, adamw


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


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):
        save(tmp_path, state(step), keep=2)
    assert steps(tmp_path) == [10, 100]  # by number, not by name
    save(tmp_path, state(101), keep=1)
    assert steps(tmp_path) == [101]


def test_a_broken_later_checkpoint_does_not_push_out_a_whole_one(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, state(step), keep=1)
    (tmp_path / "step-20" / "tensors.safetensors").write_bytes(b"")
    save(tmp_path, state(15), keep=1)  # the run went back and was interrupted on its way
    assert steps(tmp_path) == [15]
    found, warnings = latest(tmp_path)
    assert found is not None
    assert (found.step, warnings) == (15, [])


def test_remains_of_a_killed_save_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".step-3.partial").mkdir()
    (tmp_path / ".step-3.partial" / "tensors.safetensors").write_bytes(b"half")
    assert steps(tmp_path) == []
    save(tmp_path, state(5))
    assert [p.name for p in tmp_path.iterdir()] == ["step-5"]


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "checksums.json"])
@pytest.mark.parametrize("damage", ["missing", "flipped", "truncated", "empty", "a folder"])
def test_the_one_before_is_used(tmp_path: Path, file: str, damage: str) -> None:
    for step in (1, 2):
        save(tmp_path, state(step))
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
    save(tmp_path, State(3, found | {f"net.{k}": v for k, v in net.state_dict().items()}))
    learn(net, optimizer, 3)
    again, optimizer_again, names_again = conv_net()
    read = latest(tmp_path)[0]
    assert read is not None
    again.load_state_dict({k[4:]: v for k, v in read.tensors.items() if k.startswith("net.")})
    moments = {k: v for k, v in read.tensors.items() if not k.startswith("net.")}
    checkpoint.load_optimizer_tensors(optimizer_again, names_again, moments)
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
def test_foreign_moments_are_refused(change: Any, said: str) -> None:
    net, optimizer, names = conv_net()
    learn(net, optimizer, 1)
    tensors = checkpoint.optimizer_tensors(optimizer, names)
    change(tensors)
    fresh = conv_net()
    with pytest.raises(ValueError, match=re.escape(said)):
        checkpoint.load_optimizer_tensors(fresh[1], fresh[2], tensors)
    assert not fresh[1].state  # all or nothing


def test_checksums_are_of_the_files(tmp_path: Path) -> None:
    target = save(tmp_path, state(4))
    assert sorted(p.name for p in target.iterdir()) == ["checksums.json", "state.json", "tensors.safetensors"]
    assert json.loads((target / "state.json").read_text()) == {"step": 4, "note": "at 4"}
