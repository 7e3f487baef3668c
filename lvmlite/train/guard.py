"""What keeps a bad step from spoiling a run: the gradient's norm and its clipping, and the rule for bad steps.

In: the loss and the gradient norm of a step. Out: whether the step may change anything. A step whose loss or gradient
is not finite, or whose gradient is far above what is usual, is skipped; its batch index is logged, since that batch
can be drawn again. After some of them in a row the run stops; the last checkpoint is of before.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from lvmlite.recipe import Range
from lvmlite.train.pieces import is_sharded

USUAL = 100  # good norms whose median is what is usual
KNOWN = 20  # of them before any is called a spike


@dataclass
class GuardConfig:
    """When a step is skipped, and when the run stops.

    Attributes:
        max_bad_steps: so many in a row end the run.
        spike: skip a step whose gradient norm, before clipping, is above this many times the median of the last 100
            good ones, once 20 are known; 0 never does.
    """

    max_bad_steps: Annotated[int, Range(1)] = 5
    spike: Annotated[float, Range(0)] = 0.0

    def __post_init__(self) -> None:
        if 0 < self.spike <= 1:
            raise ValueError(f"spike {self.spike} would skip usual steps: give a factor above 1, or 0 for none")


class Diverged(ValueError):
    """The steps stayed bad; the message says at which step and which batch."""


class Guard:
    """The rule for bad steps, and what it remembers.

    Attributes:
        bad_steps: the last so many were bad; reason: why the last of them was.
        norms: phase -> gradient norms of its last good steps, kept only if there is a rule for spikes.
    """

    def __init__(self, config: GuardConfig):
        self.config = config
        self.bad_steps, self.reason = 0, ""
        self.norms: dict[str, list[float]] = {}

    def problem(self, phase: str, loss: float, norm: float) -> str | None:
        """What is wrong with the loss or the gradient norm of a phase, or None."""
        if not math.isfinite(loss):
            return "the loss is not finite"
        if not math.isfinite(norm):
            return "the gradient is not finite"
        known = self.norms.get(phase, [])
        if self.config.spike and len(known) >= KNOWN:
            usual = statistics.median(known)
            if norm > self.config.spike * usual:
                return f"the gradient norm {norm:.3g} is above {self.config.spike:g} times the usual {usual:.3g}"
        return None

    def note(self, problem: str | None, norms: dict[str, float]) -> None:
        """Remember a step: what was wrong with it, and the norms of its phases."""
        if problem:
            self.bad_steps, self.reason = self.bad_steps + 1, problem
            return
        self.bad_steps, self.reason = 0, ""
        if self.config.spike:
            for phase, norm in norms.items():
                self.norms[phase] = [*self.norms.get(phase, []), norm][-USUAL:]

    def verdict(self, title: str, step: int) -> Diverged | None:
        """What ends the run after too many bad steps in a row. step: taken so far."""
        if self.bad_steps < self.config.max_bad_steps:
            return None
        what, raised = "the loss was not finite", "guard.max_bad_steps"
        if self.reason.startswith("the gradient norm"):
            what, raised = self.reason, "guard.spike or guard.max_bad_steps"
        elif self.reason.startswith("the gradient"):
            what = "the gradient was not finite"
        return Diverged(
            f"{title}: {what} for {self.bad_steps} steps in a row, last at step {step} (batch {step - 1}); the last "
            f"checkpoint, if there is one, is kept. Check the data; raise {raised} to go on, or start anew with a "
            "lower learning rate in another out"
        )

    def state(self) -> dict[str, Any]:
        """For the checkpoint's scalars; floats come back from JSON to the bit."""
        return {"bad_steps": self.bad_steps, "norms": self.norms}

    def load(self, state: dict[str, Any]) -> None:
        self.bad_steps, self.norms = state["bad_steps"], state["norms"]


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their norm is at most `limit` (0: leave them); nothing waits for the device.

    Sharded gradients (DTensor) count whole, over all ranks; then all must call. Ones on different meshes may mix.

    Returns:
        The norm before, (,) on the gradients' device.
    """
    groups: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        if (gradient := parameter.grad) is not None:
            groups.setdefault(gradient.device_mesh if is_sharded(gradient) else None, []).append(gradient)
    if not groups:
        return torch.zeros(())
    norms = []
    for mesh, gradients in groups.items():
        norm = nn.utils.get_total_norm(gradients, foreach=None if mesh is None else True)
        norms.append(norm.full_tensor() if is_sharded(norm) else norm)
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    if limit:
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradients in groups.values():  # each rank scales its own part
            local = [g.to_local() if is_sharded(g) else g for g in gradients]
            torch._foreach_mul_(local, scale)
    return norm
