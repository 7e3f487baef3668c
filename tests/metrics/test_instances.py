import numpy as np
import pytest

from lvmlite.metrics.instances import InstancePQ, PanopticQuality


def quality(metric, *pairs):
    counted = metric()
    for prediction, truth in pairs:
        counted.update(np.array(prediction), np.array(truth))
    return counted.compute()


def test_matched_missed_and_false_segments_by_hand():
    truth = [[1000] * 4, [2001] * 4, [2002] * 4, [3000] * 4]
    prediction = [[1000] * 4, [2005, 2005, 2005, 1000], [2005, 4000, 4000, 4000], [3000] * 4]
    # class 1: IoU 4/5; class 2: 2001 with IoU 3/5, 2002 missed; class 3: 1; class 4: false
    expected = np.mean([4 / 5, (3 / 5) / 1.5, 1.0, 0.0])
    assert quality(PanopticQuality, (prediction, truth)) == pytest.approx(expected)


def test_unlabelled_truth_counts_neither_way():
    truth = [[0, 0, 0, 1000], [2000, 2000, 2000, 2000]]
    assert quality(PanopticQuality, ([[1000] * 4, [2000] * 4], truth)) == 1.0
    assert quality(PanopticQuality, ([[3000, 3000, 3000, 1000], [2000] * 4], truth)) == 1.0  # mostly unlabelled
    assert quality(PanopticQuality, ([[0, 0, 0, 3000], [2000] * 4], truth)) == pytest.approx(1 / 3)


def test_half_an_overlap_is_no_match():
    assert quality(InstancePQ, ([[1, 1, 0]], [[7, 0, 0]])) == 0
    assert quality(InstancePQ, ([[1, 1, 1, 0]], [[7, 7, 0, 0]])) == pytest.approx(2 / 3)


def test_instances_need_not_agree_in_number_and_background_is_labelled():
    truth = [[1, 1, 2, 2, 0, 0]]
    assert quality(InstancePQ, ([[900, 900, 5, 5, 0, 0]], truth)) == 1
    assert quality(InstancePQ, ([[900, 900, 5, 5, 3, 3]], truth)) == pytest.approx(2 / 2.5)
    assert np.isnan(quality(InstancePQ, ([[0]], [[0]])))
