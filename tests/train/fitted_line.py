"""A learner small enough to check by hand, and its training.

Fits y = w x + b to eight points a step; in one phase or two, spoiled where a test says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lvmlite.train.loop import Learner, MicroBatch, TrainConfig, Trainer
from lvmlite.train.optim import OptimConfig

CPU = torch.device("cpu")
OPTIM = OptimConfig(lr=0.1, min_lr=0.01, warmup_steps=2, weight_decay=0.0, grad_clip=0.0)


class Line(Learner):
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
