"""The next batch is drawn while the last one is trained on.

In: a pure function of the batch index, of NumPy work only. Out: what it gives, with no wait where drawing is faster
than training. Since it is pure, the bits are those of calling it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Draws in one thread of its own, so that two draws never overlap.

    Args:
        draw: batch index -> batch; must not touch an accelerator.

    Attributes:
        waited: seconds that the last `get` took.
    """

    def __init__(self, draw: Callable[[int], T]):
        self.draw = draw
        self.thread = ThreadPoolExecutor(1, "ahead")  # it ends when this object goes
        self.coming: tuple[int, Future[T]] | None = None
        self.waited = 0.0

    def get(self, index: int) -> T:
        """Batch `index`; the next one is begun. What `draw` raises is raised here, when its batch is asked for."""
        begun = time.perf_counter()
        index_coming, batch = self.coming or (-1, None)
        if batch is None or index_coming != index:
            batch = self.thread.submit(self.draw, index)
        try:
            return batch.result()
        finally:
            self.waited = time.perf_counter() - begun
            self.coming = (index + 1, self.thread.submit(self.draw, index + 1))

    def rest(self) -> None:
        """Wait until nothing is being drawn: now the caller may use what `draw` uses."""
        if self.coming is not None:
            wait([self.coming[1]])
