"""How alike pictures look: PSNR, SSIM, LPIPS, and the distance of the sets they make, rFID and KID.

In: uint8 pictures and what the tokenizer made of them. Out: metrics by group, and distances of the two sets. LPIPS and
the distances need nets whose weights are files that the user adds; without them they are None.

Papers: LPIPS, Zhang et al., CVPR 2018; FID, Heusel et al., NeurIPS 2017; KID, Binkowski et al., ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lvmlite.evaluate.ceiling import pooled
from lvmlite.metrics import METRICS, Metric
from lvmlite.metrics.base import ratio
from lvmlite.metrics.frechet import Moments, frechet_distance, kernel_distance
from lvmlite.tokenizers.base import to_float

# Weights by name. LPIPS with AlexNet is what its authors advise for measuring, VGG16 for training.
WEIGHTS = {"LPIPS": "lpips-alex", "rFID": "inception-fid"}
ENOUGH = 10_000  # pictures from which FID is read as published
_SUBSETS, _SUBSET = 100, 1000  # of KID, as published
_SSIM_SIDE = 11  # its window
_LPIPS_SIDE = 31  # of AlexNet; of smaller ones its last pooling leaves nothing


@dataclass(frozen=True)
class Nets:
    """The nets that look at pictures; None where the weights are not on this machine.

    Attributes:
        lpips: two (B, 3, H, W) float in [0, 1] -> (B,).
        inception: (B, 3, H, W) float in [0, 1] -> (B, D).
    """

    device: torch.device
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    inception: Callable[[Tensor], Tensor] | None = None


def there() -> dict[str, bool]:
    """Which of the weights are on this machine: what is measured depends on it."""
    from lvmlite import weights

    return {name: weights.have(name) for name in WEIGHTS.values()}


def open_nets(device: torch.device) -> Nets:
    """What is here of LPIPS with AlexNet and of Inception."""
    from lvmlite import weights

    lpips = inception = None
    if weights.have(WEIGHTS["LPIPS"]):
        from lvmlite.perception.lpips import open_lpips

        lpips = open_lpips("alex", device)
    if weights.have(WEIGHTS["rFID"]):
        from lvmlite.perception.inception import open_inception

        inception = open_inception(device)
    return Nets(device, lpips, inception)


def how_to_add(measure: str) -> str:
    """What to fetch and the command that adds it, for "LPIPS" or "rFID"."""
    from lvmlite import weights

    return weights.how_to_get(WEIGHTS[measure])[0]


class Mean(Metric):
    """Mean of numbers that a net gave. State: sum, numbers."""

    name = "mean"
    higher_is_better = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """`prediction`: how far each is from what stands at `truth`, 0."""
        return np.array([(prediction - truth).sum(), prediction.size], np.float64)

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


class Likeness:
    """How like the true pictures a set of reconstructions is.

    Attributes:
        groups: metric -> group -> what was counted of it. "psnr", "ssim" from 11 px on, "lpips" with its net.
        n: pictures.
    """

    def __init__(self, nets: Nets):
        self.nets, self.n = nets, 0
        self.groups: dict[str, dict[str, Metric]] = {"psnr": {}, "ssim": {}, "lpips": {}}
        self.moments: list[Moments] = []  # of what was made, and of the true ones
        self.features: list[list[np.ndarray]] = [[], []]  # of the first ENOUGH, for KID

    @torch.no_grad()
    def update(self, made: np.ndarray, true: np.ndarray, groups: Sequence[str]) -> None:
        """Count pictures (N, H, W, 3) uint8, a few dozen at a time, beside the true ones; `groups`: whose each is."""
        side = min(true.shape[1:3])
        for name in ("psnr", "ssim") if side >= _SSIM_SIDE else ("psnr",):
            for group, a, b in zip(groups, made, true, strict=True):
                self.groups[name].setdefault(group, METRICS[name]()).update(a, b)
        both = [to_float(pictures, self.nets.device) for pictures in (made, true)]
        if self.nets.lpips is not None and side >= _LPIPS_SIDE:
            for group, distance in zip(groups, self.nets.lpips(*both).double().cpu().numpy(), strict=True):
                self.groups["lpips"].setdefault(group, Mean()).update(distance, np.zeros(()))
        if self.nets.inception is not None:
            seen = [self.nets.inception(x).float().cpu().numpy() for x in both]
            self.moments = self.moments or [Moments(x.shape[1]) for x in seen]
            for moments, features, x in zip(self.moments, self.features, seen):
                moments.update(x)
                features += [x] if self.n < ENOUGH else []
        self.n += len(true)

    def merge(self, other: Likeness, source: str) -> None:
        """Count all that `other` has counted; its groups are those of `source`."""
        for name, groups in other.groups.items():
            for group, metric in groups.items():
                self.groups[name].setdefault(f"{source}/{group}", type(metric)()).merge(metric)
        self.moments = self.moments or [Moments(moments.dim) for moments in other.moments]
        for mine, theirs in zip(self.moments, other.moments):
            mine.merge(theirs)
        self.n += other.n

    def of(self, name: str) -> float | None:
        """A metric over all pictures; None if it was not measured."""
        groups = list(self.groups[name].values())
        return pooled(groups).compute() if groups else None

    def fid(self) -> float | None:
        """Fréchet distance of the two sets; None without the net, or for a single picture."""
        return frechet_distance(*self.moments) if self.moments and self.n > 1 else None

    def kid(self, rng: np.random.Generator) -> float | None:
        """Kernel distance of the two sets, on 100 subsets of 1,000, or one of all where there are not more."""
        if not self.features[0] or self.n < 2:
            return None
        made, true = (np.concatenate(features) for features in self.features)
        subsets = _SUBSETS if len(made) > _SUBSET else 1
        return kernel_distance(made, true, subsets, min(len(made), _SUBSET), rng)[0]
