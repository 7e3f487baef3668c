import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.metrics.geometry import DepthAbsRel, DepthAbsRelAligned, DepthDelta1, NormalAngle


def value(metric, prediction, truth):
    metric = metric()
    metric.update(np.asarray(prediction, dtype=np.float32), np.asarray(truth, dtype=np.float32))
    return metric.compute()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999))
def test_depth_by_definition(seed):
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random((5, 7)) < 0.2, 0, rng.uniform(0.5, 20, (5, 7)))
    prediction = truth * rng.uniform(0.6, 1.6, (5, 7))
    pixels = [(p, t) for p, t in zip(prediction.flat, truth.flat) if t > 0]
    absrel = np.mean([abs(p - t) / t for p, t in pixels])
    delta1 = np.mean([max(p / t, t / p) < 1.25 for p, t in pixels])
    assert value(DepthAbsRel, prediction, truth) == pytest.approx(absrel, rel=1e-5)
    assert value(DepthDelta1, prediction, truth) == pytest.approx(delta1)


def test_depth_that_is_unknown():
    assert value(DepthAbsRel, [[0.0, 2.0]], [[4.0, 2.0]]) == 0.5
    assert value(DepthDelta1, [[0.0, 2.0]], [[4.0, 2.0]]) == 0.5
    assert value(DepthAbsRelAligned, [[0.0, 3.0, 1.0]], [[4.0, 6.0, 2.0]]) == pytest.approx(1 / 3)
    assert value(DepthAbsRelAligned, [[0.0]], [[4.0]]) == 1
    for metric in (DepthAbsRel, DepthDelta1, DepthAbsRelAligned):
        assert value(metric, [[9.0, 9.0, 2.0]], [[0.0, np.inf, 2.0]]) == metric.higher_is_better
        assert np.isnan(value(metric, [[9.0]], [[0.0]]))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), scale=st.floats(0.1, 10), shift=st.floats(0, 5))
def test_aligned_depth_does_not_see_scale_and_shift_of_inverse_depth(seed, scale, shift):
    truth = np.random.default_rng(seed).uniform(1, 10, (6, 6))
    assert value(DepthAbsRelAligned, 1 / (scale / truth + shift), truth) < 2e-4


def test_aligned_depth_equals_least_squares():
    rng = np.random.default_rng(0)
    truth, prediction = rng.uniform(1, 10, (2, 8, 8)).astype(np.float32)
    a, b = np.linalg.lstsq(np.stack([1 / prediction.ravel(), np.ones(64)], 1), 1 / truth.ravel(), rcond=None)[0]
    fitted = 1 / np.maximum(a / prediction + b, 1 / truth.max())
    expected = np.mean(np.abs(fitted - truth) / truth)
    assert value(DepthAbsRelAligned, prediction, truth) == pytest.approx(expected, rel=1e-5)


def test_aligned_depth_of_a_constant_is_the_best_constant_of_inverse_depth():
    truth = np.array([[1.0, 2.0, 4.0]])
    fitted = 3 / (1 / truth).sum()
    expected = np.mean(np.abs(fitted - truth) / truth)
    assert value(DepthAbsRelAligned, np.full((1, 3), 7.0), truth) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999))
def test_normal_angle_by_definition(seed):
    rng = np.random.default_rng(seed)
    prediction, truth = rng.normal(size=(2, 5, 6, 3))
    truth[rng.random((5, 6)) < 0.2] = 0
    cosine = (prediction * truth).sum(-1) / np.linalg.norm(prediction, axis=-1)
    known = truth.any(-1)
    cosine = cosine[known] / np.linalg.norm(truth, axis=-1)[known]
    expected = np.degrees(np.arccos(cosine)).mean()
    assert value(NormalAngle, prediction, truth) == pytest.approx(expected, rel=1e-4)


def test_normal_angle_of_known_angles_and_of_unknown():
    truth = [[[0, 0, 1.0]]]
    for degrees in (0, 1e-3, 30, 90, 180):
        t = np.radians(degrees)
        assert value(NormalAngle, [[[np.sin(t), 0, np.cos(t)]]], truth) == pytest.approx(degrees, abs=1e-4)
    assert value(NormalAngle, [[[0, 0, 0.0]]], truth) == 90
    assert np.isnan(value(NormalAngle, truth, [[[0, 0, 0.0]]]))
