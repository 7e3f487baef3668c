"""One process is rank 0 of 1; several sum, agree and copy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lvmlite
from lvmlite import distributed

CPU = torch.device("cpu")

PROGRAM = """
import torch
from lvmlite import distributed as d
cpu = torch.device("cpu")
assert d.start(cpu) == d.start(cpu) == cpu
r, n = d.rank(), d.world_size()
assert n == 3 and d.is_main() == (r == 0)
assert d.total(r + 0.25, cpu) == 3.75
assert d.totals([1.0, r, 1e-17], cpu) == [3.0, 3.0, 3e-17]
assert d.largest(-r, cpu) == 0 and d.largest(15 * (r == 2), cpu) == 15
nan = d.total(float("nan") if r == 1 else 1.0, cpu)
assert nan != nan
a, b = torch.full((2, 3), r + 1.0), torch.arange(4).reshape(2, 2) * (r + 1)
strided = torch.full((1, 2, 2, 2), r + 1.0).to(memory_format=torch.channels_last)
strided[0, 1] *= 10
c = torch.tensor(float(r))
d.sum_(t for t in (a, b, strided, c))
assert a.eq(6).all() and b.tolist() == [[0, 6], [12, 18]] and c == 3, (a, b, c)
assert strided[0, 0].eq(6).all() and strided[0, 1].eq(60).all() and strided.stride()[1] == 1
d.sum_([])
w, k = torch.full((3,), float(r)), torch.full((2, 2), r)
d.broadcast_([w, k])
assert w.eq(0).all() and k.eq(0).all()
d.barrier()
d.stop()
assert (d.rank(), d.world_size()) == (0, 1)
"""


def test_one_process() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.start(CPU) == CPU
    assert distributed.total(2.5, CPU) == 2.5
    assert distributed.totals([1.0, 2.0], CPU) == [1.0, 2.0]
    assert distributed.largest(-3, CPU) == -3
    x = torch.arange(3.0)
    distributed.sum_([x])
    distributed.broadcast_([x])
    distributed.barrier()
    distributed.stop()
    assert x.tolist() == [0, 1, 2]


def test_three_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "PYTHONPATH": str(Path(lvmlite.__file__).parents[1]), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | shared | {"RANK": str(r)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(3)
    ]
    for rank in ranks:
        _, error = rank.communicate(timeout=100)
        assert rank.returncode == 0, error


def test_without_torchrun_no_group_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert distributed.start(CPU) == CPU
    assert distributed.world_size() == 1
