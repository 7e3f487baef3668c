"""What every metric offers: a state of sums that add up over pictures, groups, ranks and resamples.

In: one annotation read and the true one at a time. Out: a number, nan before the first update that counts.

    metric = METRICS["miou"]()
    for prediction, truth in pictures:
        metric.update(prediction, truth)
    metric.compute()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np


class Metric(ABC):
    """Base class. A subclass names itself, says how its state is laid out, and what it comes to.

    Attributes:
        name: its name in METRICS.
        higher_is_better: which way is up.
        same_shape: prediction and truth are maps of one shape; False for lists of boxes or joints.
        state: float64 sums, all of the evidence so far; two metrics merge by adding theirs. The last axis may
            differ in length between two states (classes seen so far); what is missing is zero.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    same_shape: ClassVar[bool] = True
    _shape: ClassVar[tuple[int, ...]]

    def __init__(self) -> None:
        self.state = np.zeros(self._shape)

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Count one picture. Both arrays have the shape that the class states.

        Raises:
            ValueError: the two differ in shape, where the metric compares them place by place.
        """
        if self.same_shape and prediction.shape != truth.shape:
            raise ValueError(f"{self.name}: prediction {prediction.shape} and truth {truth.shape} differ in shape")
        self.state = add(self.state, self.measure(prediction, truth))

    def merge(self, other: Self) -> None:
        """Count all that `other` has counted. `other` is unchanged."""
        assert type(other) is type(self), f"{type(other).__name__} cannot be merged into {type(self).__name__}"
        self.state = add(self.state, other.state)

    def compute(self) -> float:
        """The metric over everything counted; nan if that is nothing."""
        return self.value(self.state)

    def copy(self) -> Self:
        """An independent metric with the same counts."""
        other = type(self)()
        other.state = self.state.copy()
        return other

    @staticmethod
    @abstractmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """The state of one picture, float64."""

    @staticmethod
    @abstractmethod
    def value(state: np.ndarray) -> float:
        """The metric of a state; nan if it is empty."""


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of two states, the shorter padded with zeros along its last axis."""
    if a.shape[-1] < b.shape[-1]:
        a, b = b, a
    total = a.copy()
    total[..., : b.shape[-1]] += b
    return total


def ratio(numerator: float, denominator: float) -> float:
    """numerator / denominator as a float, nan for 0 / 0."""
    return float(numerator / denominator) if denominator else float("nan")
