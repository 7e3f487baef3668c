"""The training loop, one for tokenizers and language models.

In: a `Learner` and a `TrainConfig`. Out: checkpoints, log.jsonl, the learner's modules trained.

The loop owns accumulation, clipping, the schedule, logging, checkpoints, interruption and the rule for bad steps
(`guard.py`). It holds no randomness: what a step does is a function of (seed, step), so a resumed run is bit-identical
to an unbroken one.

A step has one message between ranks and one wait for the device: losses are summed over ranks together with what the
ranks must agree on, the signals that have arrived and how far their checkpoints are written, and read together with
the gradient norm. A bad step changes nothing: the gradients of all phases are there before the first optimiser steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lvmlite import distributed
from lvmlite.devices import Precision, use_bf16
from lvmlite.recipe import Range, to_dict
from lvmlite.train import checkpoint
from lvmlite.train.guard import Diverged as Diverged
from lvmlite.train.guard import Guard, GuardConfig, clip_gradients
from lvmlite.train.log import Board, JsonLog
from lvmlite.train.meter import Meter, Window, peak_flops
from lvmlite.train.optim import OptimConfig, learning_rate
from lvmlite.train.pieces import is_sharded
from lvmlite.train.reporter import Reporter
from lvmlite.train.signals import SIGNALS, Interrupted, catch_signals
from lvmlite.train.trackers import TrackerName, check_trackers, open_trackers


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
        guard: when a step is skipped, and when the run stops.
        track: where the log goes, too.
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
    guard: GuardConfig = field(default_factory=GuardConfig)
    track: list[TrackerName] = field(default_factory=list)


@dataclass
class MicroBatch:
    """A piece of a step's batch. `weight`: its share of the loss; the shares of all ranks' pieces sum to 1."""

    data: Any
    weight: float


class Learner(Protocol):
    """What the loop trains. A class of it inherits what it need not say.

    Attributes:
        modules: by name, checkpointed; optimizers: by phase. Their tensors may be sharded (DTensor).
        unit: what `size` counts ("tokens" or "images"), for rates.
        flops: training FLOPs of a global batch; 0 if not known.
        tensor_ranks: ranks that share each piece of the batch.
        waited: seconds that the last call of `micro_batches` waited for data.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    unit: str
    flops: float = 0.0
    tensor_ranks: int = 1
    waited: float = 0.0

    def phases(self, step: int) -> list[str]:
        """The optimisers that step, in order."""
        ...

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """This rank's pieces of batch `step`."""
        ...

    def schedule(self, phase: str) -> tuple[OptimConfig, int]:
        """How a phase's optimiser steps, and the step its schedule begins at."""
        ...

    def loss(self, phase: str, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a piece, and parts of it to log (scalars).

        It changes nothing that is trained, and its gradient reaches no parameter of an earlier phase.
        """
        ...

    def reduce(self, parameters: list[nn.Parameter]) -> None:
        """Sum the gradients over ranks, after all pieces; sharded ones are summed already."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        distributed.sum_(gradient for gradient in gradients if not is_sharded(gradient))

    def after_step(self, step: int) -> dict[str, float]:
        """Whatever follows the update (moving averages, code revival); numbers to log."""
        ...

    def validate(self) -> dict[str, float]:
        """Losses on held-out data."""
        ...

    def size(self) -> int:
        """Units (tokens, images) in a global batch."""
        ...

    def pictures(self) -> float:
        """Pictures in a global batch, where the unit is another; 0 if not known."""
        return 0.0

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors beyond modules and optimisers that resuming needs; loaded in place by name."""
        ...


class Agreement(NamedTuple):
    """What all ranks know alike after a step. stop: a signal that some rank has caught, 0 if none; failed: some rank
    could not write its part of the checkpoint; pending: some rank has not yet written it."""

    stop: int
    failed: bool
    pending: bool


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
        check_split(config, distributed.world_size() // learner.tensor_ranks)
        check_trackers(config.track)
        self.quiet = quiet or not distributed.is_main()
        self.names = {id(p): n for m, module in learner.modules.items() for n, p in named(m, module)}
        self.bf16 = use_bf16(device, config.precision)
        self.guard = Guard(config.guard)
        self.checkpointer = checkpoint.Checkpointer(folder / "checkpoints", config.keep_checkpoints)
        self.caught: list[int] = []
        self.agreed = Agreement(0, False, False)
        self.step = 0

    def state(self) -> checkpoint.State:
        tensors: dict[str, Tensor] = {}
        for name, module in self.learner.modules.items():
            tensors |= {f"module/{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self.learner.optimizers.items():
            found = checkpoint.optimizer_tensors(optimizer, self.names)
            tensors |= {f"optimizer/{name}/{key}": value for key, value in found.items()}
        tensors |= {f"extra/{key}": value for key, value in self.learner.extra_state().items()}
        tensors = dict(sorted(tensors.items()))  # an optimiser has them in the order of their first gradients
        return checkpoint.State(self.step, tensors, {"fingerprint": self.fingerprint, "guard": self.guard.state()})

    def load(self, found: checkpoint.Found) -> None:
        """Fill all that is trained in place; of sharded tensors each rank reads its part.

        Raises:
            ValueError: the checkpoint is of another recipe or of a longer run, or does not fit the learner.
        """
        where = self.folder / "checkpoints"
        if found.scalars.get("fingerprint") != self.fingerprint:
            raise ValueError(f"{where}: written by another recipe; delete the folder or choose another out")
        if found.step > self.config.steps:
            raise ValueError(
                f"{where}: was trained for {found.step} steps, the recipe asks for {self.config.steps}; ask for more, "
                f"delete the folder or choose another out"
            )
        learner, pieces = self.learner, found.tensors
        places = {f"module/{name}.": module.state_dict() for name, module in learner.modules.items()}
        places["extra/"] = learner.extra_state()
        try:
            for prefix, mine in places.items():
                if trouble := checkpoint.misfit(mine, pieces.under(prefix)):
                    raise ValueError(f"{prefix}{trouble}")
            for name, optimizer in learner.optimizers.items():
                checkpoint.load_optimizer_tensors(optimizer, self.names, pieces.under(f"optimizer/{name}/"))
            self.guard.load(found.scalars["guard"])
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{where / f'step-{found.step}'}: does not fit this version of the program ({error}); "
                f"delete {where} to start anew"
            ) from None
        for prefix, mine in places.items():
            for name, tensor in mine.items():
                pieces.read_into(prefix + name, tensor)
        self.step = found.step

    def resume(self) -> None:
        """Go back to the newest whole checkpoint, if there is one."""
        found, warnings = checkpoint.latest(self.folder / "checkpoints")
        if distributed.is_main():
            for warning in warnings:
                print(f"warning: {warning}", file=sys.stderr, flush=True)
        if found is not None:
            self.load(found)

    def run(self) -> None:
        """Train.

        Raises:
            Interrupted: by a signal, after saving. Diverged: see `guard`. OSError: the disk is full.
            On all ranks after the same step.
        """
        self.resume()
        config, learner, main = self.config, self.learner, distributed.is_main()
        log = JsonLog(self.folder / "log.jsonl", after=self.step) if main else None
        settings = to_dict(config) | {"fingerprint": self.fingerprint}
        meter = Meter(
            learner.unit,
            learner.size(),
            self.device,
            pictures=learner.pictures(),
            flops=learner.flops,
            peak=peak_flops(self.device) if self.bf16 else None,
            device_hours=log.last.get("device_hours", 0.0) if log else 0.0,
        )
        with (
            catch_signals() as self.caught,
            Board(self.title, config.steps, learner.unit, self.quiet) as board,
            open_trackers(config.track if main else [], self.folder, settings, self.step) as trackers,
        ):
            board.update(self.step)
            try:
                self.train(Reporter(meter, log, board, trackers, config.log_every))
            finally:
                if distributed.world_size() == 1:  # else another rank may be elsewhere
                    self.checkpointer.finish()
            if stop := int(distributed.largest(max(self.caught, default=0), self.device)):  # during the last checkpoint
                raise Interrupted(stop, self.step)

    def train(self, reporter: Reporter) -> None:
        """Take the steps that are left, and publish the last checkpoint."""
        config, checkpointer = self.config, self.checkpointer
        while self.step < config.steps:
            entry = self.one_step(reporter.meter)
            stop, failed, pending = self.agreed
            if failed:
                checkpointer.finish()
            elif not pending:
                checkpointer.publish()
            done = self.step == config.steps
            if done or (config.validate_every and self.step % config.validate_every == 0):
                entry |= self.learner.validate()
            reporter.tell(entry, done)
            if over := self.guard.verdict(self.title, self.step):
                checkpointer.finish()
                raise over
            good = not self.guard.bad_steps  # what led to a bad step is not kept, if it can be helped
            if done or stop or (good and self.step % config.checkpoint_every == 0):
                checkpointer.save(self.state())
            if stop:
                checkpointer.finish()
                raise Interrupted(stop, self.step)
        checkpointer.finish()

    def one_step(self, window: Window) -> dict[str, Any]:
        """One optimiser step of every phase; gives what to log."""
        learner, step = self.learner, self.step
        begun = time.perf_counter()
        pieces = learner.micro_batches(step)
        entry: dict[str, Any] = {"step": step + 1}
        phases, norms = learner.phases(step), {}
        problem = None
        for i, phase in enumerate(phases):
            optimizer, (optim, start) = learner.optimizers[phase], learner.schedule(phase)
            lr = learning_rate(optim, step - start, self.config.steps - start)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
            names, means = self.backward(phase, pieces, step)
            learner.reduce(parameters)
            *values, norm = self.read(means, clip_gradients(parameters, optim.grad_clip))
            parts = dict(zip(names, values))
            loss, norms[phase] = parts.pop("loss"), norm
            prefix = f"{phase}_" if i else ""
            entry |= {f"{prefix}lr": lr, f"{prefix}loss": loss, f"{prefix}grad_norm": norm, **parts}
            if problem := self.guard.problem(phase, loss, norm):
                break
        if problem is None:
            for phase in phases:
                learner.optimizers[phase].step()
            entry |= learner.after_step(step)
        else:
            entry |= {"bad_batch": step, "bad_reason": problem}
        self.guard.note(problem, norms)
        self.step += 1
        window.add(time.perf_counter() - begun, learner.waited)
        return entry

    def backward(self, phase: str, pieces: list[MicroBatch], step: int) -> tuple[list[str], Tensor]:
        """Accumulate the gradient of all pieces; gives the names of the loss and its parts, and this rank's share of
        their means over the global batch: (n,) float64, on the device, which need not wait for us."""
        names: list[str] = []
        where = torch.device("cpu") if self.device.type == "mps" else self.device  # MPS has no float64
        means = torch.zeros((), dtype=torch.float64, device=where)
        for piece in pieces:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss, parts = self.learner.loss(phase, piece, step)
            (loss * piece.weight).backward()
            names = ["loss", *parts]
            values = torch.stack([value.detach().float() for value in (loss, *parts.values())])
            means = means + values.to(where, torch.float64) * piece.weight
        return names, means

    def read(self, means: Tensor, norm: Tensor) -> list[float]:
        """Sum the means over ranks, agree with them, and wait for the device; gives the means and the norm."""
        failed = self.checkpointer.failed() is not None
        votes = [*(number in self.caught for number in SIGNALS), failed, not failed and not self.checkpointer.done()]
        told = [means.new_full((1,), float(vote)) for vote in votes]  # filled on the device: a copy would wait for it
        message = torch.cat((means / self.learner.tensor_ranks, *told))
        distributed.sum_([message])
        *values, found = torch.cat((message, norm[None].to(message))).tolist()
        counts = values[len(means) :]
        stop = max((int(number) for number, n in zip(SIGNALS, counts) if n), default=0)
        self.agreed = Agreement(stop, bool(counts[-2]), bool(counts[-1]))
        return [*values[: len(means)], found]


def check_split(config: TrainConfig, ranks: int) -> None:
    """Raises ValueError, one line, unless a global batch splits over ranks that each read their own, and there into
    whole micro batches."""
    batch, micro = config.batch_size, config.micro_batch_size
    if batch % ranks:
        raise ValueError(
            f"a global batch of {batch} does not split over {ranks} ranks: set batch_size to {nearest(batch, ranks)}"
        )
    if micro and batch // ranks % micro:
        over = f" over {ranks} ranks" if ranks > 1 else ""
        raise ValueError(
            f"a global batch of {batch} does not split{over} into micro batches of {micro}: "
            f"set batch_size to {nearest(batch, ranks * micro)}, or micro_batch_size to "
            f"{max(n for n in range(1, micro) if batch // ranks % n == 0)}"
        )


def nearest(batch: int, unit: int) -> str:
    """The multiples of a unit on both sides of a batch size, in words."""
    below = batch // unit * unit
    return f"{below} or {below + unit}" if below else f"{unit}"


def named(prefix: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module.named_parameters():
        yield f"{prefix}.{name}", parameter
