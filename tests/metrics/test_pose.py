import math

import numpy as np
import pytest

from lvmlite.metrics.pose import PCK, PointPCK


def score(metric, prediction, truth):
    metric = metric()
    metric.update(np.array(prediction, np.float32), np.array(truth, np.float32))
    return metric.compute()


def person(x=0.0, y=0.0, size=100.0, k=17, seed=0):
    """K joints in a box whose greater side is exactly `size`."""
    xy = np.random.default_rng(seed).random((k, 2)) * (0.5, 1)
    xy[0, 1], xy[1, 1] = 0, 1
    return np.concatenate([xy * size + (x, y), np.full((k, 1), 2)], axis=1)


NOBODY = np.zeros((0, 17, 3))


def test_within_a_tenth_of_the_person():
    truth = person()
    assert score(PCK, truth[None] + [9.9, 0, 0], truth[None]) == 1
    assert score(PCK, truth[None] + [10.1, 0, 0], truth[None]) == 0
    small = person(size=4)
    assert score(PCK, small[None] + [0.9, 0, 0], small[None]) == 1  # at least a pixel
    assert score(PCK, small[None] + [1.1, 0, 0], small[None]) == 0


def test_missing_joints_are_wrong_and_surplus_ones_free():
    truth, less = person(), person()
    less[:5, 2] = 0
    assert score(PCK, less[None], truth[None]) == pytest.approx(12 / 17)
    assert score(PCK, truth[None], less[None]) == 1
    hidden = person()
    hidden[:, 2] = 1
    assert score(PCK, truth[None], hidden[None]) == 1


def test_people_are_matched_whatever_their_order():
    a, b, c = person(), person(120, seed=1), person(10, 5, seed=2)
    assert score(PCK, [c, b, a], [a, b, c]) == 1
    assert score(PCK, [a], [a, b]) == pytest.approx(1 / 2)
    assert score(PCK, [a, a], [a, b]) == pytest.approx(1 / 2)  # nobody is matched twice
    assert score(PCK, [a, b, c], [b]) == 1
    assert score(PCK, NOBODY, [a, b]) == 0


def test_a_single_joint_does_not_take_the_place_of_the_person():
    truth, part, whole = person(), person(), person(x=1)
    part[1:, 2] = 0
    assert score(PCK, [part, whole], [truth]) == 1


def test_what_lies_in_joints_not_labelled_does_not_matter():
    truth = person()
    truth[3] = 9999, -9999, 0
    assert score(PCK, person()[None], truth[None]) == 1


def test_no_true_joint_is_nan():
    assert math.isnan(score(PCK, person()[None], NOBODY))
    assert math.isnan(score(PCK, NOBODY, NOBODY))
    assert math.isnan(score(PCK, NOBODY, np.zeros((2, 17, 3))))


def test_points_asked_are_judged_alone():
    truth = person(k=5)
    asked = np.array([[0, 0, -1]] * 5, np.float32)
    asked[2] = truth[2]
    assert score(PointPCK, asked, truth) == 1
    asked[2, 0] += 9.9
    assert score(PointPCK, asked, truth) == 1
    asked[2, 0] += 0.3
    assert score(PointPCK, asked, truth) == 0
    assert math.isnan(score(PointPCK, np.array([[0, 0, -1]] * 5), truth))
    assert score(PointPCK, truth[:3], truth) == 1


def test_absent_from_both_is_right_from_one_wrong():
    truth = person(k=3)
    truth[1, 2] = 0
    none = np.zeros((3, 3))
    assert score(PointPCK, none, truth) == pytest.approx(1 / 3)
    truth[:, 2] = 0
    assert score(PointPCK, none, truth) == 1
    assert score(PointPCK, person(k=3), truth) == 0
