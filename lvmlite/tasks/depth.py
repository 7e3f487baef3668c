"""Depth: metres drawn as grey, near is bright. Two tasks.

In: "depth" (H, W) float metres, 0 = unknown. Out: a grey picture; unknown is black.
`Depth` has fixed ends, so metres can be read back. `RelativeDepth` stretches each picture between its own
nearest and farthest point in inverse depth, as Depth Anything (Yang et al., CVPR 2024) and MiDaS (Ranftl et
al., TPAMI 2022) show theirs; metres are then known up to a scale and a shift of inverse depth.

Known depths use grey 32..255, see `lvmlite.tasks.grey`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from lvmlite.recipe import Range
from lvmlite.tasks.base import Task
from lvmlite.tasks.grey import draw, measure


@dataclass(frozen=True)
class DepthConfig:
    """
    Attributes:
        annotation: the native annotation it draws.
        normalise: grey is linear in 1 / metres ("inverse": finer where near, as stereo and eyes are) or in
            metres ("linear").
        near, far: metres drawn as white and as the darkest grey; depths beyond are drawn as these.
    """

    task: Literal["depth"] = "depth"
    annotation: str = "depth"
    normalise: Literal["inverse", "linear"] = "inverse"
    near: Annotated[float, Range(1e-6)] = 1.0
    far: Annotated[float, Range(1e-6)] = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.near < self.far:
            raise ValueError(f"near must be above 0 and below far; near is {self.near}, far is {self.far} metres")


class Depth(Task):
    """`read` inverts `render` up to half a grey level: for depth z between near and far, by at most
    z^2 * (1/near - 1/far) / 446 to first order ("inverse"), or (far - near) / 446 ("linear"), metres."""

    Config: ClassVar = DepthConfig
    metrics = ("depth_absrel", "depth_delta1")

    def __init__(self, config: DepthConfig) -> None:
        self.config = config
        self.annotation = config.annotation

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw metres (H, W); 0, negative and NaN are unknown, inf is far."""
        near, far = self.config.near, self.config.far
        known = annotation > 0
        z = np.clip(np.where(known, annotation, far).astype(np.float64), near, far)
        if self.config.normalise == "inverse":
            nearness = (1 / z - 1 / far) / (1 / near - 1 / far)
        else:
            nearness = (far - z) / (far - near)
        return draw(nearness, known)

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Metres (H, W) float32 between near and far, 0 where the picture is black."""
        near, far = self.config.near, self.config.far
        nearness, known = measure(picture)
        if self.config.normalise == "inverse":
            z = 1 / (1 / far + nearness * (1 / near - 1 / far))
        else:
            z = far - nearness * (far - near)
        return np.where(known, z, 0).astype(np.float32)


@dataclass(frozen=True)
class RelativeDepthConfig:
    """
    Attributes:
        annotation: the native annotation it draws.
    """

    task: Literal["relative_depth"] = "relative_depth"
    annotation: str = "depth"


class RelativeDepth(Task):
    """Nearest point of each picture white, farthest the darkest grey; linear in inverse depth between them.

    `read` gives metres as if the picture reached from 1 to 10 metres. Its inverse is the true inverse depth
    up to a scale, a shift and half a grey level (1/446 of the range); the metric of this task fits scale and
    shift first.
    """

    Config: ClassVar = RelativeDepthConfig
    metrics = ("depth_absrel_aligned",)

    def __init__(self, config: RelativeDepthConfig) -> None:
        self.config = config
        self.annotation = config.annotation

    def render(
        self, annotation: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw metres (H, W); 0, negative and NaN are unknown. A picture of one depth is drawn mid-way."""
        known = annotation > 0
        inverse = 1 / np.where(known, annotation, np.inf).astype(np.float64)
        low, high = (inverse[known].min(), inverse[known].max()) if known.any() else (0.0, 0.0)
        if high == low:
            return draw(np.full(known.shape, 0.5), known)
        return draw((inverse - low) / (high - low), known)

    def read(
        self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Relative metres (H, W) float32 between 1 and 10, 0 where the picture is black."""
        nearness, known = measure(picture)
        return np.where(known, 1 / (0.1 + 0.9 * nearness), 0).astype(np.float32)
