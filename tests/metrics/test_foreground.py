import numpy as np
import pytest

from lvmlite.metrics.foreground import ForegroundIoU


def test_mean_over_pictures_without_the_empty_ones():
    metric = ForegroundIoU()
    empty = np.zeros((1, 4), np.uint8)
    metric.update(empty, empty)
    assert np.isnan(metric.compute())
    metric.update(np.array([[1, 1, 0, 0]], np.uint8), np.array([[0, 1, 1, 0]], np.uint8))
    assert metric.compute() == pytest.approx(1 / 3)
    metric.update(np.array([[1, 0, 0, 0]], np.uint8), np.array([[1, 0, 0, 0]], np.uint8))
    assert metric.compute() == pytest.approx(2 / 3)
    metric.update(empty, np.array([[1, 0, 0, 0]], np.uint8))
    assert metric.compute() == pytest.approx(4 / 9)
