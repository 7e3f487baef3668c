"""Optimiser and schedule: AdamW, linear warm-up, cosine decay.

LVM-Lite: beta .9/.95, weight decay .1, warm-up 2000 then cosine 1.5e-4 -> 1.5e-5 in stage 1; cosine 1.5e-5 -> 1.5e-6
without warm-up in stage 2. Decaying every parameter, norms too, is what the released LVM does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from lvmlite.recipe import Range


@dataclass
class OptimConfig:
    """AdamW and its schedule.

    Attributes:
        lr: the peak; min_lr: where the cosine ends.
        warmup_steps: linear from 0.
        betas, weight_decay: of AdamW; decay_norms: decay vectors (norms, biases) too, as released.
        grad_clip: largest norm of the gradient; 0 does not clip.
    """

    lr: Annotated[float, Range(0)] = 1.5e-4
    min_lr: Annotated[float, Range(0)] = 1.5e-5
    warmup_steps: Annotated[int, Range(0)] = 2000
    betas: tuple[Annotated[float, Range(0, 1)], Annotated[float, Range(0, 1)]] = (0.9, 0.95)
    weight_decay: Annotated[float, Range(0)] = 0.1
    decay_norms: bool = False
    grad_clip: Annotated[float, Range(0)] = 1.0

    def __post_init__(self) -> None:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}")


def adamw(parameters: Iterable[tuple[str, Tensor]], config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW over named parameters; those without gradient are left out. The codes of a quantiser never decay:
    they are places among latents.

    Raises:
        ValueError: none is left.
    """
    named = [(name, p) for name, p in parameters if p.requires_grad]
    if not named:
        raise ValueError("nothing to train: no parameter has a gradient")
    decays = [(p.dim() > 1 or config.decay_norms) and not name.startswith("quantize.") for name, p in named]
    trained = [p for _, p in named]
    decayed = [p for p, decay in zip(trained, decays) if decay]
    plain = [p for p, decay in zip(trained, decays) if not decay]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    fused = trained[0].device.type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=fused
    )


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The rate of step 0 .. steps-1."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + math.cos(math.pi * min(1.0, progress)))
