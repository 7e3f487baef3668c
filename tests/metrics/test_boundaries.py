import math

import numpy as np
import pytest

from lvmlite.metrics.boundaries import BoundaryF1


def score(prediction, truth):
    metric = BoundaryF1()
    metric.update(prediction, truth)
    return metric.compute()


def line(share, column, shape=(10, 30)):
    x = np.zeros(shape, np.float32)
    x[:, column] = share
    return x


@pytest.mark.parametrize("annotators", [3, 5, 6, 9])
def test_truth_itself_is_perfect(annotators):
    rng = np.random.default_rng(0)
    truth = np.where(rng.random((40, 40)) < 0.3, rng.integers(0, annotators + 1, (40, 40)) / annotators, 0)
    assert score(truth.astype(np.float32), truth.astype(np.float32)) == 1
    read = np.rint(truth * 255) / 255
    assert score(read.astype(np.float32), truth.astype(np.float32)) == 1


def test_one_pixel_of_tolerance():
    assert score(line(1, 11), line(1, 10)) == 1
    assert score(line(1, 12), line(1, 10)) == 0


def test_what_one_person_drew_may_be_predicted_but_need_not_be():
    both = line(1, 5) + line(0.2, 20)
    assert score(line(1, 5), both) == 1
    assert score(line(1, 5) + line(1, 20), both) == 1
    assert score(line(1, 5) + line(1, 20), line(1, 5)) == pytest.approx(2 / 3)  # precision 1/2
    assert score(line(1, 5), line(1, 5) + line(0.4, 20)) == pytest.approx(2 / 3)  # recall 1/2


def test_faint_predictions_are_none_and_nothing_is_nan():
    assert score(line(0.3, 5), line(1, 5)) == 0
    assert math.isnan(score(line(0, 5), line(0, 5)))
