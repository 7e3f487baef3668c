"""What every task offers: an annotation that can be fitted, drawn as a picture, and read back from one.

In: native annotations (class ids, metres, unit vectors, ...). Out: uint8 RGB pictures, and back.

A *kind* is a configured task named in a recipe, e.g. ``seg: {task: segmentation, palette: painter150}``. Building
a store and evaluating a model go through the same `fit` and `render`, so truth and answer are drawn alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from lvmlite.images import Geometry


class Task(ABC):
    """Base class. A subclass takes its config dataclass, `Config`.

    Attributes:
        annotation: the native annotation it draws ("classes", "depth", ...); None if derived from the photo.
        metrics: names from METRICS by which `read` annotations are judged against the truth.
        variants: how many pictures of one annotation a store holds (palettes, noise draws); 0 is canonical.
    """

    Config: ClassVar[type[Any]]
    annotation: str | None = None
    metrics: ClassVar[tuple[str, ...]] = ()
    variants: int = 1

    def fit(self, annotation: Any, geometry: Geometry) -> Any:
        """The native annotation at the geometry's size. Default: a map, nearest neighbour."""
        return geometry.map(annotation)

    def derive(self, image: np.ndarray, rng: np.random.Generator) -> Any | None:
        """The annotation computed from a fitted photo, uint8 RGB (H, W, 3); None where the task needs a native one."""
        return None

    @abstractmethod
    def render(self, annotation: Any, variant: int = 0, split: str = "train") -> np.ndarray:
        """Draw a fitted annotation: uint8 RGB (H, W, 3).

        `variant` v > 0 draws it another way; variants of "test" are never those of "train".
        """

    @abstractmethod
    def read(self, picture: np.ndarray, variant: int = 0, split: str = "train") -> Any:
        """Inverse of `render` on any uint8 RGB picture (H, W, 3), up to the loss the class states."""
