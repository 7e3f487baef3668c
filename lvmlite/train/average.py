"""A moving average of a net's weights, kept beside it while it trains.

In: the net after each step. Out: a second net, which is validated and saved in its stead: its pictures are steadier
than those of any one step, above all under an adversarial loss.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor


class Average:
    """Args: net: already set up, what is trained requires a gradient; decay: of the average.

    Attributes:
        net: the averaged copy. What is not learned by gradient (a codebook that is a moving average already, a frozen
            encoder) is copied.
    """

    def __init__(self, net: Any, decay: float):
        self.decay = decay
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.averaged: dict[str, tuple[Tensor, Tensor]] = {}  # name -> of the copy, of the net
        self.copied: dict[str, tuple[Tensor, Tensor]] = {}
        trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
        theirs = net.state_dict()
        for name, mine in self.net.state_dict().items():
            (self.averaged if name in trained else self.copied)[name] = (mine, theirs[name])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the net after step 0, 1, ... A young average forgets faster, so that the first weights, which are
        noise, are soon gone: the decay is at most (1 + step) / (10 + step)."""
        mine, theirs = zip(*self.averaged.values())
        torch._foreach_lerp_(mine, theirs, 1 - min(self.decay, (1 + step) / (10 + step)))
        for copied, original in self.copied.values():
            copied.copy_(original)

    @torch.no_grad()
    def jump(self, prefix: str, rows: Tensor | slice = slice(None)) -> None:
        """Copy rows of the weights whose name begins with `prefix`: they were moved, the way there means nothing."""
        for name, (mine, theirs) in self.averaged.items():
            if name.startswith(prefix):
                mine[rows] = theirs[rows]
