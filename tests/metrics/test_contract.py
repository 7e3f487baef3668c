"""Every entry of METRICS keeps the contract of `Metric`."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.metrics import METRICS, bootstrap


def pictures(name, n, rng, shape=(14, 17)):
    """n random (prediction, truth), alike enough that metrics lie inside their range."""
    out = []
    for _ in range(n):
        if name in ("miou", "pixel_accuracy"):
            truth = rng.integers(0, rng.integers(2, 9), shape)
            prediction = np.where(rng.random(shape) < 0.7, truth, rng.integers(0, 9, shape))
        elif name.startswith("depth"):
            truth = np.where(rng.random(shape) < 0.1, 0, rng.uniform(1, 9, shape)).astype(np.float32)
            prediction = np.where(rng.random(shape) < 0.1, 0, truth * rng.uniform(0.7, 1.4, shape)).astype(np.float32)
        elif name == "normal_angle":
            truth = np.where(rng.random((*shape, 1)) < 0.1, 0, rng.normal(size=(*shape, 3)))
            prediction = truth + rng.normal(size=truth.shape)
        elif name == "edge_f1":
            truth, prediction = rng.random((2, *shape)) < 0.1
        elif name == "boundary_f1":
            truth, prediction = (rng.random((2, *shape)) * (rng.random((2, *shape)) < 0.15)).astype(np.float32)
        elif name.startswith("disparity"):
            truth = np.where(rng.random(shape) < 0.1, 0, rng.uniform(1, 9, shape)).astype(np.float32)
            prediction = np.where(truth > 0, truth + rng.normal(0, 3, shape), 0).astype(np.float32)
        elif name in ("instance_pq", "pq"):
            truth = np.kron(rng.integers(0, 5, (3, 4)), np.ones((5, 5), int))[: shape[0], : shape[1]]
            prediction = np.where(rng.random(shape) < 0.8, truth, rng.integers(0, 5, shape))
            truth, prediction = (
                x * (1000 if name == "pq" else 1) + (name == "pq") * (x > 0) for x in (truth, prediction)
            )
        elif name == "foreground_iou":
            truth = (rng.random(shape) < 0.4).astype(np.uint8)
            prediction = np.where(rng.random(shape) < 0.8, truth, 1 - truth).astype(np.uint8)
        elif name.startswith("box_"):
            corner = np.array([[2, 2], [30, 4], [5, 40]]) + rng.integers(0, 3, (3, 2))
            truth = np.concatenate(
                [corner, corner + rng.integers(9, 20, (3, 2)), rng.integers(1, 3, (3, 1)), [[1], [2], [3]]], 1
            )
            moved = truth + np.pad(rng.integers(-4, 5, (3, 4)), ((0, 0), (0, 2)))
            truth, prediction = truth.astype(np.float32), moved.astype(np.float32)[: rng.integers(1, 4)]
        elif name in ("pck", "point_pck"):
            truth = np.concatenate([rng.uniform(0, 64, (2, 17, 2)), np.full((2, 17, 1), 2)], 2).astype(np.float32)
            prediction = truth + np.pad(rng.normal(0, 5, (2, 17, 2)), ((0, 0), (0, 0), (0, 1))).astype(np.float32)
            if name == "point_pck":
                truth, prediction = truth[0], prediction[0]
        else:
            assert name in ("psnr", "mse", "ssim"), f"say here what pictures {name} takes"
            truth = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
            prediction = np.clip(truth + rng.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
        out.append((prediction, truth))
    return out


def counted(name, pairs):
    metric = METRICS[name]()
    for prediction, truth in pairs:
        metric.update(prediction, truth)
    return metric


@pytest.fixture(params=METRICS)
def name(request):
    return request.param


def test_name_direction_and_emptiness(name):
    metric = METRICS[name]()
    assert metric.name == name
    assert isinstance(metric.higher_is_better, bool)
    assert math.isnan(metric.compute())


def test_truth_is_better_than_a_guess(name):
    pairs = pictures(name, 3, np.random.default_rng(0))
    guess, perfect = counted(name, pairs), counted(name, [(truth, truth) for _, truth in pairs])
    assert isinstance(guess.compute(), float)
    assert math.isfinite(guess.compute())
    assert (perfect.compute() > guess.compute()) == metric_direction(name)
    assert perfect.compute() == pytest.approx({"psnr": 100}.get(name, float(metric_direction(name))), abs=1e-6)


def metric_direction(name):
    return METRICS[name].higher_is_better


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(METRICS)), cut=st.integers(0, 4), seed=st.integers(0, 999))
def test_merging_equals_counting_all(name, cut, seed):
    pairs = pictures(name, 4, np.random.default_rng(seed))
    whole, left, right = counted(name, pairs), counted(name, pairs[:cut]), counted(name, pairs[cut:])
    kept = right.copy()
    left.merge(right)
    assert left.compute() == pytest.approx(whole.compute(), rel=1e-12)
    assert np.array_equal(right.state, kept.state)
    left.update(*pairs[0])
    assert np.array_equal(right.state, kept.state)


def test_a_copy_is_independent(name):
    pairs = pictures(name, 2, np.random.default_rng(1))
    metric = counted(name, pairs[:1])
    before, copy = metric.compute(), metric.copy()
    copy.update(*pairs[1])
    assert metric.compute() == before
    copy.state += 1
    assert metric.compute() == before


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.same_shape])
def test_different_shapes_are_refused(name):
    (prediction, truth), *_ = pictures(name, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match=rf"{name}: prediction .* differ in shape"):
        METRICS[name]().update(prediction[:-1], truth)


def test_bootstrap_holds_the_estimate(name):
    rng = np.random.default_rng(2)
    groups = [counted(name, pictures(name, 2, rng)) for _ in range(30)]
    total = METRICS[name]()
    for group in groups:
        total.merge(group)
    low, high = bootstrap(groups, n=300)
    assert low <= total.compute() <= high
    assert low < high
