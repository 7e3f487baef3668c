import math

import numpy as np
import pytest

from lvmlite.metrics.disparity import DisparityBad3, DisparityEPE


def score(metric, prediction, truth):
    metric = metric()
    metric.update(np.array(prediction, np.float32), np.array(truth, np.float32))
    return metric.compute()


def test_mean_error_over_known_pixels():
    truth = [[10, 20, 0, np.inf]]
    assert score(DisparityEPE, [[11, 17, 50, 0]], truth) == pytest.approx(2)
    assert score(DisparityEPE, [[0, 20, 0, 0]], truth) == pytest.approx(5)  # unknown counts as 0
    assert score(DisparityEPE, truth, truth) == 0
    assert math.isnan(score(DisparityEPE, [[1, 1]], [[0, np.nan]]))


def test_share_that_is_off_by_more_than_three():
    assert score(DisparityBad3, [[13, 23.5, 9, 30]], [[10, 20, 0, 30]]) == pytest.approx(1 / 3)
    assert score(DisparityBad3, [[0, 0]], [[2, 40]]) == pytest.approx(1 / 2)
