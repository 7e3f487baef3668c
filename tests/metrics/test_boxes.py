import numpy as np
import pytest

from lvmlite.metrics.boxes import BoxF1, BoxIoU, iou


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 6)


def value(metric, *pairs):
    counted = metric()
    for prediction, truth in pairs:
        counted.update(prediction, truth)
    return counted.compute()


A, B = (0, 0, 10, 10, 1, 1), (20, 20, 30, 30, 1, 2)


def test_iou_by_hand():
    assert iou(boxes(A), boxes((5, 0, 15, 10, 1, 1)))[0, 0] == pytest.approx(50 / 150)
    assert iou(boxes(A), boxes(B, (3, 3, 3, 3, 1, 1))).tolist() == [[0, 0]]


def test_f1_pools_counts_and_matches_one_to_one():
    near = (0, 0, 10, 8, 1, 9)
    assert value(BoxF1, (boxes(A, B), boxes(B, A))) == 1
    assert value(BoxF1, (boxes(A, near), boxes(A))) == pytest.approx(2 / 3)
    assert value(BoxF1, (boxes((0, 0, 10, 10, 2, 1)), boxes(A))) == 0  # another class
    assert value(BoxF1, (boxes((0, 0, 10, 5, 1, 1)), boxes(A))) == 1  # IoU of exactly 1/2
    assert value(BoxF1, (boxes(A), boxes(A)), (boxes(), boxes(A, B))) == pytest.approx(2 / 4)
    assert np.isnan(value(BoxF1, (boxes(), boxes())))


def test_the_best_pair_is_matched_first():
    wide, narrow = (0, 0, 10, 10, 1, 1), (0, 0, 10, 7, 1, 2)
    assert value(BoxF1, (boxes(narrow, wide), boxes(wide, narrow))) == 1


def test_largest_boxes_are_compared_whatever_their_class():
    small = (50, 50, 52, 52, 1, 1)
    assert value(BoxIoU, (boxes(small, (0, 0, 10, 5, 7, 1)), boxes(A, small))) == pytest.approx(0.5)
    assert value(BoxIoU, (boxes(), boxes(A)), (boxes(A), boxes(A))) == pytest.approx(0.5)
    assert np.isnan(value(BoxIoU, (boxes(A), boxes())))
