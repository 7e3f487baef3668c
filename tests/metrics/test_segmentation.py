import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.metrics.segmentation import MeanIoU, PixelAccuracy


def plain_miou(pairs):
    """By the definition, with sets of pixels."""
    pixels = [(p, t) for prediction, truth in pairs for p, t in zip(prediction.flat, truth.flat) if t != 0]
    ious = []
    for c in range(1, 20):
        both = sum(p == c and t == c for p, t in pixels)
        either = sum(p == c or t == c for p, t in pixels)
        if either:
            ious.append(both / either)
    return np.mean(ious)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), dtype=st.sampled_from(["uint8", "uint16", "int64"]))
def test_miou_and_accuracy_by_definition(seed, dtype):
    rng = np.random.default_rng(seed)
    pairs = [tuple(rng.integers(0, rng.integers(2, 20), (2, 6, 7)).astype(dtype)) for _ in range(3)]
    miou, accuracy = MeanIoU(), PixelAccuracy()
    for prediction, truth in pairs:
        miou.update(prediction, truth)
        accuracy.update(prediction, truth)
    assert miou.compute() == pytest.approx(plain_miou(pairs), abs=1e-12)
    p, t = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    assert accuracy.compute() == pytest.approx((p == t)[t != 0].mean(), abs=1e-12)


def test_unlabelled_predictions_are_errors_and_unlabelled_truth_is_ignored():
    truth = np.array([[1, 1, 0, 0]])
    metric = MeanIoU()
    metric.update(np.array([[1, 0, 5, 1]]), truth)
    assert metric.compute() == 0.5  # class 5 was predicted on unlabelled pixels only: not seen
    metric.update(np.array([[5, 1, 1, 1]]), truth)
    assert metric.compute() == pytest.approx((2 / 4 + 0) / 2)


def test_nothing_labelled_is_nan():
    metric = MeanIoU()
    metric.update(np.array([[3]]), np.array([[0]]))
    assert np.isnan(metric.compute())


def test_state_grows_with_the_largest_id_either_way():
    small, large = MeanIoU(), MeanIoU()
    small.update(np.array([[1]]), np.array([[1]]))
    large.update(np.array([[150]]), np.array([[7]]))
    for a, b in ((small, large), (large, small)):
        merged = a.copy()
        merged.merge(b)
        assert merged.state.shape == (3, 151)
        assert merged.compute() == pytest.approx(1 / 3)
