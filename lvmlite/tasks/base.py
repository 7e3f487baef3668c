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

    def fit(self, annotation: Any, geometry: Geometry, shape: tuple[int, int]) -> Any:
        """The native annotation at the geometry's size. Default: a map, nearest neighbour.

        Args:
            shape: (H, W) of the photo as the source gave it, in whose pixels boxes and keypoints are.

        Raises:
            Unreadable: the annotation is not what the task can draw (a reason that can be counted).
        """
        return geometry.map(annotation)

    def unfit(self, annotation: Any, geometry: Geometry, shape: tuple[int, int]) -> Any:
        """What was read, brought back to a photo of `shape` (H, W). Default: maps and pictures; 0 where "crop" cut."""
        if annotation.dtype == np.uint8 and annotation.shape[2:] == (3,):
            return geometry.invert_image(annotation, shape)
        return geometry.invert_map(annotation, shape)

    def derive(self, image: np.ndarray, rng: np.random.Generator) -> Any | None:
        """The annotation computed from a fitted photo, uint8 RGB (H, W, 3); None where the task needs a native one."""
        return None

    @abstractmethod
    def render(
        self, annotation: Any, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw a fitted annotation: uint8 RGB (H, W, 3).

        Args:
            variant: v > 0 draws it another way; variants of "test" are never those of "train".
            image: the fitted photo, uint8 (H, W, 3). Builder and bench always give it; a task that says so draws on
                it, or takes its size from it.

        Raises:
            Unreadable: the annotation cannot be drawn: an id without a colour, for one.
        """

    @abstractmethod
    def read(self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None) -> Any:
        """Inverse of `render` on any uint8 RGB picture (H, W, 3), up to the loss the class states.

        `image`: the fitted photo the picture belongs to, or None where it is not known.
        """
