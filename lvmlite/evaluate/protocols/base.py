"""What every protocol offers: a bench in, a `Result` out.

A protocol class takes its config dataclass, whose field `protocol` is its name in PROTOCOLS.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from lvmlite.evaluate.bench import Bench
from lvmlite.evaluate.results import Result

Progress = Callable[[int, int], None]  # steps done, steps in all


class Protocol(ABC):
    """Base class.

    Attributes:
        needs_model: False where `run` takes a `TokenizerBench` too, so before any model is trained.
    """

    needs_model: ClassVar[bool] = True

    @abstractmethod
    def run(self, bench: Bench, progress: Progress) -> Result:
        """Measure. `protocol`, `settings` and `seconds` of the result are filled in by the runner.

        Raises:
            ValueError: the store lacks what the config names, in one line.
        """
