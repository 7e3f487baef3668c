"""The training loop, one for tokenizers and language models.

In: a `Learner` and a `TrainConfig`. Out: checkpoints, log.jsonl, the learner's modules trained.

The loop owns accumulation, clipping, the schedule, logging, checkpoints, interruption and the NaN rule. It holds no
randomness: what a step does is a function of (seed, step), so a resumed run is bit-identical to an unbroken one.

NaN rule: a step whose loss or gradient is not finite changes nothing: the gradients of all phases are there before
the first optimiser steps. Its batch index is logged, since that batch can be drawn again. After `MAX_BAD_STEPS` of
them in a row the run stops; the last checkpoint holds finite weights.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor, nn

from lvmlite import distributed
from lvmlite.devices import Precision, peak_memory_gb, use_bf16
from lvmlite.recipe import Range
from lvmlite.train import checkpoint
from lvmlite.train.log import JsonLog, progress
from lvmlite.train.optim import OptimConfig, learning_rate

MAX_BAD_STEPS = 5


@dataclass
class TrainConfig:
    """How long and how a learner is trained. Budgets are steps, never seconds: a resumed run takes the same steps.

    Attributes:
        steps: optimiser steps.
        batch_size: global: sentences (language) or pictures (tokenizer) of a step.
        micro_batch_size: of them at one time on one rank; None takes all.
        precision: "auto" is bf16 autocast where the device has it.
        checkpoint_every, log_every, validate_every: steps; validate_every 0 only at the end.
        keep_checkpoints: how many of the last are kept.
    """

    steps: Annotated[int, Range(1)] = 1000
    batch_size: Annotated[int, Range(1)] = 64
    micro_batch_size: Annotated[int, Range(1)] | None = None
    optim: OptimConfig = field(default_factory=OptimConfig)
    precision: Precision = "auto"
    checkpoint_every: Annotated[int, Range(1)] = 200
    keep_checkpoints: Annotated[int, Range(1)] = 2
    log_every: Annotated[int, Range(1)] = 10
    validate_every: Annotated[int, Range(0)] = 0


@dataclass
class MicroBatch:
    """A piece of a step's batch. `weight`: its share of the loss; the shares of all ranks' pieces sum to 1."""

    data: Any
    weight: float


class Learner(Protocol):
    """What the loop trains.

    Attributes:
        modules: by name, checkpointed; optimizers: by phase.
        unit: what `size` counts ("tokens" or "images"), for rates.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    unit: str

    def phases(self, step: int) -> list[str]:
        """The optimisers that step, in order."""

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """This rank's pieces of batch `step`."""

    def schedule(self, phase: str) -> tuple[OptimConfig, int]:
        """How a phase's optimiser steps, and the step its schedule begins at."""

    def loss(self, phase: str, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a piece, and parts of it to log (scalars).

        It changes nothing that is trained, and its gradient reaches no parameter of an earlier phase.
        """

    def after_step(self, step: int) -> dict[str, float]:
        """Whatever follows the update (moving averages, code revival); numbers to log."""

    def validate(self) -> dict[str, float]:
        """Losses on held-out data."""

    def size(self) -> int:
        """Units (tokens, images) in a global batch."""

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors beyond modules and optimisers that resuming needs; loaded in place by name."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM arrived: the checkpoint of the last step is saved.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; run the same command to go on")
        self.signal = number


class Diverged(ValueError):
    """The loss stayed non-finite; the message says at which step and which batch."""


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying; a second one gets through."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, _: Any) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Trainer:
    """Runs a learner to its last step, from its newest checkpoint if there is one.

    Args:
        learner: what to train, its modules on `device`.
        config: how; folder: receives `checkpoints/` and `log.jsonl`.
        fingerprint: hash of all that decides the run; a checkpoint of another is refused.
        quiet: no progress on the terminal.
    """

    def __init__(
        self,
        learner: Learner,
        config: TrainConfig,
        folder: Path,
        device: torch.device,
        *,
        title: str = "training",
        fingerprint: str = "",
        quiet: bool = False,
    ):
        self.learner, self.config, self.folder, self.device = learner, config, folder, device
        self.title, self.fingerprint = title, fingerprint
        self.quiet = quiet or not distributed.is_main()
        self.names = {id(p): n for m, module in learner.modules.items() for n, p in named(m, module)}
        self.bf16 = use_bf16(device, config.precision)
        self.step = 0
        self.bad_steps = 0

    def state(self) -> checkpoint.State:
        tensors: dict[str, Tensor] = {}
        for name, module in self.learner.modules.items():
            tensors |= {f"module/{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self.learner.optimizers.items():
            found = checkpoint.optimizer_tensors(optimizer, self.names)
            tensors |= {f"optimizer/{name}/{key}": value for key, value in found.items()}
        tensors |= {f"extra/{key}": value for key, value in self.learner.extra_state().items()}
        return checkpoint.State(self.step, tensors, {"fingerprint": self.fingerprint, "bad_steps": self.bad_steps})

    def load(self, state: checkpoint.State) -> None:
        """Raises ValueError if the checkpoint is of another recipe, or does not fit the learner."""
        where = self.folder / "checkpoints"
        if state.scalars.get("fingerprint") != self.fingerprint:
            raise ValueError(f"{where}: written by another recipe; delete the folder or choose another out")
        learner, tensors = self.learner, state.tensors
        places = {f"module/{name}.": module.state_dict() for name, module in learner.modules.items()}
        places["extra/"] = learner.extra_state()
        try:
            for prefix, mine in places.items():
                if trouble := checkpoint.misfit(mine, under(prefix, tensors)):
                    raise ValueError(f"{prefix}{trouble}")
            for name, optimizer in learner.optimizers.items():
                checkpoint.load_optimizer_tensors(optimizer, self.names, under(f"optimizer/{name}/", tensors))
        except ValueError as error:
            raise ValueError(
                f"{where / f'step-{state.step}'}: does not fit this version of the program ({error}); "
                f"delete {where} to start anew"
            ) from None
        for name, module in learner.modules.items():
            module.load_state_dict(under(f"module/{name}.", tensors))
        for name, tensor in learner.extra_state().items():
            tensor.copy_(tensors[f"extra/{name}"])
        self.step, self.bad_steps = state.step, state.scalars.get("bad_steps", 0)

    def save(self) -> None:
        if distributed.is_main():
            checkpoint.save(self.folder / "checkpoints", self.state(), self.config.keep_checkpoints)
        distributed.barrier()

    def run(self) -> None:
        """Train.

        Raises:
            Interrupted: by a signal, after saving. Diverged: see the NaN rule. OSError: the disk is full.
        """
        resumed, warnings = checkpoint.latest(self.folder / "checkpoints")
        if distributed.is_main():
            for warning in warnings:
                print(f"warning: {warning}", file=sys.stderr, flush=True)
        if resumed is not None:
            self.load(resumed)
        log = JsonLog(self.folder / "log.jsonl", after=self.step) if distributed.is_main() else None
        config = self.config
        with catch_signals() as caught, progress(self.title, config.steps, "steps", self.quiet) as bar:
            bar.update(self.step)
            window = Window(self.learner.size())
            while self.step < config.steps:
                entry = self.one_step(window)
                done = self.step == config.steps
                if done or (config.validate_every and self.step % config.validate_every == 0):
                    entry |= self.learner.validate()
                if log and (done or self.step % config.log_every == 0 or {"val_loss", "bad_batch"} & entry.keys()):
                    log.write(entry | window.rates(self.learner.unit) | {"memory_gb": round(peak_memory_gb(), 3)})
                bar.update(self.step, f"loss {entry['loss']:.3f}")
                if self.bad_steps >= MAX_BAD_STEPS:
                    raise Diverged(
                        f"{self.title}: the loss was not finite for {MAX_BAD_STEPS} steps in a row, last at step "
                        f"{self.step} (batch {self.step - 1}); the last checkpoint is kept. "
                        f"Lower the learning rate or check the data"
                    )
                stop = self.stop_signal(caught)
                good = not self.bad_steps  # what led to a step that was not finite is not kept, if it can be helped
                if done or (good and (self.step % config.checkpoint_every == 0 or stop)):
                    self.save()
                if stop:
                    raise Interrupted(stop, self.step)
            if caught:  # while the last checkpoint was written
                raise Interrupted(caught[0], self.step)

    def stop_signal(self, caught: list[int]) -> int:
        """The signal that some rank has caught, 0 if none: all ranks stop after the same step."""
        return int(distributed.largest(caught[0] if caught else 0, self.device))

    def one_step(self, window: Window) -> dict[str, Any]:
        """One optimiser step of every phase; gives what to log."""
        learner, step = self.learner, self.step
        begun = time.perf_counter()
        pieces = learner.micro_batches(step)
        waited = time.perf_counter() - begun
        entry: dict[str, Any] = {"step": step + 1}
        phases = learner.phases(step)
        finite = True
        for i, phase in enumerate(phases):
            optimizer, (optim, start) = learner.optimizers[phase], learner.schedule(phase)
            lr = learning_rate(optim, step - start, self.config.steps - start)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
            loss, parts = self.backward(phase, pieces, step)
            distributed.sum_(p.grad for p in parameters if p.grad is not None)
            norm = float(nn.utils.clip_grad_norm_(parameters, optim.grad_clip or math.inf))
            prefix = f"{phase}_" if i else ""
            entry |= {f"{prefix}lr": lr, f"{prefix}loss": loss, f"{prefix}grad_norm": norm, **parts}
            finite = math.isfinite(loss) and math.isfinite(norm)
            if not finite:
                break
        if finite:
            for phase in phases:
                learner.optimizers[phase].step()
            entry |= learner.after_step(step)
        else:
            entry["bad_batch"] = step
        self.bad_steps = 0 if finite else self.bad_steps + 1
        self.step += 1
        window.add(time.perf_counter() - begun, waited)
        return entry

    def backward(self, phase: str, pieces: list[MicroBatch], step: int) -> tuple[float, dict[str, float]]:
        """Accumulate the gradient of all pieces; gives the global mean loss and its parts."""
        names: list[str] = []
        found = []  # of each piece: the values (n,), left on the device so that it need not wait for us
        for piece in pieces:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss, parts = self.learner.loss(phase, piece, step)
            (loss * piece.weight).backward()
            names = ["loss", *parts]
            found.append(torch.stack([value.detach().float() for value in (loss, *parts.values())]))
        weights = torch.tensor([piece.weight for piece in pieces], dtype=torch.float64)
        means = distributed.totals((weights @ torch.stack(found).cpu().double()).tolist(), self.device)
        values = dict(zip(names, means))
        return values.pop("loss"), values


class Window:
    """Time and data wait since the last log line."""

    def __init__(self, size: int):
        self.size, self.seconds, self.waited, self.n = size, 0.0, 0.0, 0

    def add(self, seconds: float, waited: float) -> None:
        self.seconds, self.waited, self.n = self.seconds + seconds, self.waited + waited, self.n + 1

    def rates(self, unit: str) -> dict[str, float]:
        rate = self.n * self.size / max(self.seconds, 1e-9)
        found = {
            f"{unit}_per_s": round(rate, 1),
            "data_wait": round(self.waited / max(self.seconds, 1e-9), 4),
            "seconds": round(self.seconds, 3),
        }
        self.seconds, self.waited, self.n = 0.0, 0.0, 0
        return found


def named(prefix: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module.named_parameters():
        yield f"{prefix}.{name}", parameter


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Entries whose name begins with `prefix`, without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
