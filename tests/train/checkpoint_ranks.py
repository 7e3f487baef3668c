"""Checkpoints of several ranks, as a program that forks them: `python checkpoint_ranks.py FOLDER`.

Saved over 2 ranks, and over 2 with a copy each; read by 1, 3 and 4; one rank's disk full, one rank's file damaged.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # loaded before ranks are forked, and so only once
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor, init_device_mesh

from lvmlite import distributed
from lvmlite.train import checkpoint
from lvmlite.train.optim import OptimConfig, adamw

CPU = torch.device("cpu")


def world(n: int, act: Callable[..., None], *args: Any) -> None:
    """Have n ranks do something."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pids = []
    for rank in range(n):
        if not (pid := os.fork()):
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            try:
                distributed.start(CPU)
                act(*args)
                distributed.stop()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * n, (n, act)


def whole() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"rows": (5, 3), "columns": (3, 5), "short": (1, 4), "norm": (4,)}
    tensors = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return tensors | {"half": tensors["rows"].bfloat16()}


def sharded(mesh_shape: tuple[int, ...], tensors: dict[str, Tensor]) -> dict[str, DTensor]:
    """Over the last dimension of the mesh; the first one, if there are two, holds copies."""
    mesh = init_device_mesh("cpu", mesh_shape)
    copies = [Replicate()] * (len(mesh_shape) - 1)
    last: dict[str, Placement] = {"columns": Shard(1), "norm": Replicate()}
    return {k: distribute_tensor(v, mesh, [*copies, last.get(k, Shard(0))]) for k, v in tensors.items()}


Net = tuple[dict[str, nn.Parameter], torch.optim.Optimizer, dict[int, str]]


def learner(mesh_shape: tuple[int, ...], tensors: dict[str, Tensor]) -> Net:
    net = {k: nn.Parameter(v) for k, v in sharded(mesh_shape, tensors).items()}
    return net, adamw(net.items(), OptimConfig()), {id(p): k for k, p in net.items()}


def tensors_of(net: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Any]:
    moments = checkpoint.optimizer_tensors(optimizer, names)
    return {f"net/{k}": v for k, v in net.items()} | {f"adamw/{k}": v for k, v in moments.items()}


def trained(mesh_shape: tuple[int, ...]) -> Net:
    """After two steps, with the parameters as gradients."""
    net, optimizer, names = learner(mesh_shape, whole())
    for _ in range(2):
        for p in net.values():
            p.grad = p.detach().clone()
        optimizer.step()
    return net, optimizer, names


def save(folder: Path, step: int, mesh_shape: tuple[int, ...]) -> None:
    made = trained(mesh_shape)
    checkpointer = checkpoint.Checkpointer(folder)
    checkpointer.save(checkpoint.State(step, tensors_of(*made) | {"extra": torch.arange(3)}, {"note": step}))
    with torch.no_grad():
        for p in made[0].values():
            p.zero_()  # training goes on
    wait_for_all(checkpointer)
    assert checkpoint.steps(folder) == []
    distributed.barrier()
    checkpointer.publish()
    assert checkpoint.steps(folder) == [step]


def wait_for_all(checkpointer: checkpoint.Checkpointer) -> None:
    while distributed.total(checkpointer.done(), CPU) < distributed.world_size():
        pass


def load(folder: Path, mesh_shape: tuple[int, ...]) -> None:
    found, warnings = checkpoint.latest(folder)
    assert found is not None
    assert (warnings, found.scalars) == ([], {"note": found.step})
    assert found.tensors["extra"].equal(torch.arange(3))
    net, optimizer, names = learner(mesh_shape, {k: torch.zeros_like(v) for k, v in whole().items()})
    weights = found.tensors.under("net/")
    assert checkpoint.misfit(net, weights) is None
    for k, p in net.items():
        weights.read_into(k, p)
    checkpoint.load_optimizer_tensors(optimizer, names, found.tensors.under("adamw/"))
    mine, expected = tensors_of(net, optimizer, names), tensors_of(*trained(mesh_shape))
    assert {*mine, "extra"} == {*expected, "extra"} == {*found.tensors}
    for k, v in mine.items():
        a, b = v.detach(), expected[k].detach()
        assert type(a) is type(b)
        if isinstance(b, DTensor):
            assert a.placements == b.placements
            a, b = a.to_local(), b.to_local()
        assert (a.stride(), a.dtype) == (b.stride(), b.dtype)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def fill_a_disk(folder: Path) -> None:
    """That of rank 1; an earlier checkpoint stays, and both ranks are told."""
    if distributed.rank() == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    checkpointer = checkpoint.Checkpointer(folder)
    checkpointer.save(checkpoint.State(5, sharded((2,), {"big": torch.zeros(20_000)})))
    wait_for_all(checkpointer)
    why = "File too large" if distributed.rank() else "another rank could not"
    with pytest.raises(OSError, match=f"step-5: cannot write the checkpoint .*{why}"):
        checkpointer.publish()
    distributed.barrier()
    assert not list(folder.glob(".*"))
    assert checkpoint.steps(folder) == [4]
    checkpointer.finish()


def go_back(folder: Path) -> None:
    found, warnings = checkpoint.latest(folder)
    assert found is not None
    assert found.step == 4
    assert warnings == [
        f"{folder / 'step-6'}: rank-1.safetensors does not match its checksum; going back to the checkpoint before",
        f"{folder / 'step-5'}: checksums.json is missing; going back to the checkpoint before",
    ], warnings


def main(folder: Path) -> None:
    meshes: list[tuple[tuple[int, ...], list[tuple[int, ...]]]] = [((2,), [(1,), (3,), (4,)]), ((2, 2), [(2, 2)])]
    for written, readers in meshes:
        shutil.rmtree(folder)
        world(torch.Size(written).numel(), save, folder, 4, written)
        files = sorted(p.name for p in (folder / "step-4").glob("*.safetensors"))
        assert files == ["rank-0.safetensors", "rank-1.safetensors"], files
        for reader in readers:
            world(torch.Size(reader).numel(), load, folder, reader)
    world(2, fill_a_disk, folder)
    for step in (5, 6):
        shutil.copytree(folder / "step-4", folder / f"step-{step}")
    (folder / "step-5" / "checksums.json").unlink()
    file = folder / "step-6" / "rank-1.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    world(3, go_back, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
