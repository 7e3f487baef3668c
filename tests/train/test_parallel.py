"""A decoder on several ranks, however it lies on them, trains as it does on one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from torch import Tensor, nn

from lvmlite.model.architecture import ModelConfig
from lvmlite.model.lora import Adapted, LoRAConfig, add_lora
from lvmlite.model.transformer import Transformer
from lvmlite.train import checkpoint
from lvmlite.train.parallel import ParallelConfig, check_parallel, parallelize, place

CPU = torch.device("cpu")
ARCH = ModelConfig(dim=24, hidden_dim=36, n_heads=6, n_kv_heads=3, n_layers=2).resolve(32)
SETTINGS = {"steps": 20, "log_every": 1, "validate_every": 10, "checkpoint_every": 10, "heads": [4, 2]}
FULL, GRID = {"shard": "full"}, {"tensor": 2}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    found, warnings = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert not warnings
    assert found.step == 20
    return dict(found.tensors)


def assert_equal(one: Path, several: Path) -> None:
    """Losses, gradient norms, validation and the last checkpoint, moments included."""
    assert [entry["step"] for entry in log(several)] == list(range(1, 21))
    for a, b in zip(log(one), log(several)):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        for name in [name for name in a if name.startswith("val")]:
            assert a[name] == pytest.approx(b[name], rel=1e-5), name
    mine, theirs = weights(one), weights(several)
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert torch.allclose(mine[name], theirs[name], atol=1e-3), name


@pytest.fixture(scope="module")
def one(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run on one rank."""
    folder = tmp_path_factory.mktemp("one")
    assert server.run("language", folder, **SETTINGS) == 0, (folder / "output.txt").read_text()
    return folder


@pytest.fixture(scope="module")
def two(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on two, the model split between them."""
    folder = tmp_path_factory.mktemp("two")
    assert server.run("language", folder, ranks=2, parallel=FULL, **SETTINGS) == 0, (folder / "output.txt").read_text()
    return folder


def test_sharded_equals_one(one: Path, two: Path) -> None:
    assert_equal(one, two)
    sizes = [path.stat().st_size for path in (two / "checkpoints" / "step-20").glob("rank-*.safetensors")]
    assert len(sizes) == 2
    assert max(sizes) < 1.3 * min(sizes)  # each holds its half


@pytest.mark.parametrize(
    ("ranks", "parallel", "more"),
    [
        (2, FULL, {"micro_batch_size": 1, "activations": "block"}),
        (2, FULL, {"activations": "bpt"}),
        (2, GRID, {"micro_batch_size": 2, "activations": "selective"}),
        (4, GRID, {}),
    ],
)
def test_ranks_equal_one(
    ranks: int, parallel: dict[str, Any], more: dict[str, Any], one: Path, server: Any, tmp_path: Path
) -> None:
    code = server.run("language", tmp_path, ranks=ranks, parallel=parallel, **SETTINGS, **more)
    assert code == 0, (tmp_path / "output.txt").read_text()
    assert_equal(one, tmp_path)


@pytest.mark.parametrize(("ranks", "parallel"), [(1, {}), (4, FULL), (4, GRID)])
def test_a_run_goes_on_with_other_ranks(
    ranks: int, parallel: dict[str, Any], one: Path, two: Path, server: Any, tmp_path: Path
) -> None:
    """Saved by two at step 10: the same batches follow, and the same losses."""
    for name in ("log.jsonl", "checkpoints/step-10"):
        (shutil.copytree if (two / name).is_dir() else shutil.copy)(two / name, tmp_path / name)
    code = server.run("language", tmp_path, ranks=ranks, parallel=parallel, **SETTINGS)
    assert code == 0, (tmp_path / "output.txt").read_text()
    assert_equal(one, tmp_path)


def test_adapters_sharded_equal_one(server: Any, tmp_path: Path) -> None:
    """Of the frozen weights no gradient is reduced, and none is saved with moments."""
    folders = tmp_path / "one", tmp_path / "two"
    for folder, more in zip(folders, ({}, {"ranks": 2, "parallel": FULL})):
        code = server.run("language", folder, lora=True, **SETTINGS, **more)
        assert code == 0, (folder / "output.txt").read_text()
    assert_equal(*folders)
    trained = {name.split("/")[2] for name in weights(folders[1]) if name.startswith("optimizer/")}
    assert len(trained) == 2 * 3 * 2
    assert all(name.endswith(("lora_a", "lora_b")) for name in trained)


def test_sharded_in_bf16(one: Path, server: Any, tmp_path: Path) -> None:
    """Blocks are gathered in bf16; weights, moments and sums of gradients stay float32."""
    settings = SETTINGS | {"precision": "bf16"}
    code = server.run("language", tmp_path, ranks=2, parallel=FULL, **settings)
    assert code == 0, (tmp_path / "output.txt").read_text()
    for a, b in zip(log(one), log(tmp_path)):
        assert a["loss"] == pytest.approx(b["loss"], abs=0.02)
        assert a["loss"] != b["loss"]
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("ranks", "settings", "said"),
    [
        (3, {}, "a global batch of 4 does not split over 3 ranks: set batch_size to 3 or 6"),
        (2, {"batch_size": 1}, "a global batch of 1 does not split over 2 ranks: set batch_size to 2"),
        (2, {"micro_batch_size": 4}, "a global batch of 4 does not split over 2 ranks into micro batches of 4"),
        (2, {"parallel": GRID, "heads": [4, 1]}, "parallel.tensor=2 does not divide the model's 4 heads, 1 key/value"),
        (3, {"parallel": GRID, "batch_size": 3}, "parallel.tensor=2 does not divide the 3 ranks; what fits is 1"),
    ],
)
def test_what_does_not_fit_is_one_line(
    ranks: int, settings: dict[str, Any], said: str, server: Any, tmp_path: Path
) -> None:
    """From each rank the same; none waits for another."""
    server.start("language", tmp_path, ranks=ranks, **SETTINGS | settings)
    assert server.wait() == [2] * ranks
    output = (tmp_path / "output.txt").read_text()
    assert output.count(said) == output.count("\n") == ranks, output


# --- in this process


def test_placed_weights_are_those_of_a_plain_model() -> None:
    plain = Transformer(ARCH).init_weights(7).state_dict()
    for source in (7, tiny_runs.Whole(plain)):
        placed = place(ARCH, ParallelConfig(), CPU, source).state_dict()
        assert placed.keys() == plain.keys()
        assert all(placed[name].equal(plain[name]) for name in plain)


def test_placed_adapters_are_those_of_a_plain_model() -> None:
    config, model = LoRAConfig(rank=3), Transformer(ARCH).init_weights(7)
    source = Adapted(tiny_runs.Whole({k: v.clone() for k, v in model.state_dict().items()}), config, 5)
    plain = add_lora(model, config, 5).state_dict()
    placed = place(ARCH, ParallelConfig(), CPU, source, lora=config)
    assert placed.state_dict().keys() == plain.keys()
    assert all(value.equal(plain[name]) for name, value in placed.state_dict().items())
    assert {name[-6:] for name, p in placed.named_parameters() if p.requires_grad} == {"lora_a", "lora_b"}
    with pytest.raises(ValueError, match=r"parallel.tensor=3 does not go with lora"):
        place(ARCH, ParallelConfig(tensor=3), CPU, source, lora=config)


@pytest.mark.parametrize(
    ("setting", "device", "blocks"), [("on", "cpu", 2), ("off", "cuda", 0), ("auto", "cpu", 0), ("auto", "cuda", 2)]
)
def test_blocks_are_compiled_as_asked(setting: Any, device: str, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    model = Transformer(ARCH)
    names = list(model.state_dict())
    parallelize(model, ParallelConfig(compile=setting), torch.device(device))
    assert compiled == ["Block"] * blocks
    assert list(model.state_dict()) == names


def test_what_cannot_be_split() -> None:
    check_parallel(ARCH, ParallelConfig(tensor=3), 6)
    with pytest.raises(ValueError, match=r"6 heads, 3 key/value heads and hidden_dim 36; what fits is 1, 3$"):
        check_parallel(ARCH, ParallelConfig(tensor=2), 6)
    with pytest.raises(ValueError, match=r"parallel.tensor=3 does not divide the 4 ranks; what fits is 1$"):
        check_parallel(ARCH, ParallelConfig(tensor=3), 4)
    with pytest.raises(ValueError, match=r"parallel.shard=none with parallel.tensor=3 is for 3 ranks, here are 6"):
        check_parallel(ARCH, ParallelConfig("none", 3), 6)
    check_parallel(ARCH, ParallelConfig("none", 3), 3)
