import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lvmlite.metrics.edges import EdgeF1


def value(*pairs):
    metric = EdgeF1()
    for prediction, truth in pairs:
        metric.update(np.asarray(prediction, dtype=bool), np.asarray(truth, dtype=bool))
    return metric.compute()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999))
def test_by_definition_with_distances(seed):
    rng = np.random.default_rng(seed)
    p, t = rng.random((2, 11, 13)) < 0.08
    p[0, 0] = t[5, 5] = True
    near_t, near_p = (ndimage.distance_transform_cdt(~lines, "chessboard") <= 1 for lines in (t, p))
    precision, recall = near_t[p].mean(), near_p[t].mean()
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert value((p, t)) == pytest.approx(expected)


def test_one_pixel_off_is_right_two_are_wrong():
    line = np.zeros((9, 9))
    line[4] = 1
    assert value((np.roll(line, 1, 0), line)) == 1
    assert value((np.roll(line, 2, 0), line)) == 0


def test_tolerance_does_not_reach_around_the_border():
    a, b = np.zeros((5, 5)), np.zeros((5, 5))
    a[0], b[4] = 1, 1
    assert value((a, b)) == 0


def test_empty_drawings_and_pooling():
    none, dot = np.zeros((3, 3)), np.eye(3)
    assert np.isnan(value((none, none)))
    assert value((none, dot)) == value((dot, none)) == 0
    assert value((none, none), (dot, dot)) == 1
    assert value((none, dot), (dot, dot)) == pytest.approx(2 / 3)
