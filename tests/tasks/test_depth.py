import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.metrics import METRICS
from lvmlite.tasks.depth import Depth, DepthConfig, RelativeDepth, RelativeDepthConfig

ENDS = st.tuples(st.floats(0.05, 5), st.floats(1.1, 100)).map(lambda pair: (pair[0], pair[0] * pair[1]))


@settings(max_examples=60, deadline=None)
@given(ends=ENDS, normalise=st.sampled_from(["inverse", "linear"]), seed=st.integers(0, 999))
def test_read_inverts_render_up_to_the_stated_loss(ends, normalise, seed):
    near, far = ends
    task = Depth(DepthConfig(normalise=normalise, near=near, far=far))
    rng = np.random.default_rng(seed)
    z = rng.uniform(near, far, (13, 17)).astype(np.float32).clip(near, far)
    z[rng.random(z.shape) < 0.2] = 0
    read = task.read(task.render(z))
    known = z > 0
    assert np.array_equal(read > 0, known)
    if normalise == "linear":
        assert np.abs(read - z).max() <= (far - near) / 446 + 1e-5 * far
    else:
        error = np.abs(1 / read[known].astype(np.float64) - 1 / z[known].astype(np.float64))
        assert error.max(initial=0) <= (1 / near - 1 / far) / 446 + 1e-5 / near


@pytest.mark.parametrize("normalise", ["inverse", "linear"])
def test_near_is_bright_unknown_black_and_ends_hold_what_lies_beyond(normalise):
    task = Depth(DepthConfig(normalise=normalise, near=1.0, far=20.0))
    z = np.array([[0.5, 1.0, 3.0, 20.0, 50.0, np.inf, 0.0, -1.0, np.nan]], dtype=np.float32)
    grey = task.render(z)[0, :, 0].tolist()
    assert grey[:2] == [255, 255]
    assert 32 < grey[2] < 255
    assert grey[3:] == [32, 32, 32, 0, 0, 0]
    assert task.read(task.render(z))[0, [0, 1, 3, 4, 5, 6]] == pytest.approx([1, 1, 20, 20, 20, 0])


def test_unknown_and_far_survive_fifteen_grey_levels():
    task = Depth(DepthConfig())
    picture = task.render(np.array([[0.0, 20.0]], dtype=np.float32)).astype(int)
    for shift in (-15, 15):
        read = task.read(np.clip(picture + shift, 0, 255).astype(np.uint8))
        assert (read > 0).tolist() == [[False, True]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_relative_depth_keeps_inverse_depth_up_to_scale_and_shift(seed):
    task = RelativeDepth(RelativeDepthConfig())
    rng = np.random.default_rng(seed)
    z = rng.uniform(*sorted(rng.uniform(0.3, 30, 2)), (9, 15)).astype(np.float32)
    z[0, 0] = 0
    picture = task.render(z)
    read = task.read(picture)
    assert picture.max() == 255
    assert np.unique(picture)[:2].tolist() == [0, 32]
    known = z > 0
    x, y = 1 / read[known].astype(np.float64), 1 / z[known].astype(np.float64)
    expected = y.min() + (x - 0.1) / 0.9 * (y.max() - y.min())
    assert np.abs(expected - y).max() <= 1.001 * (y.max() - y.min()) / 446
    metric = METRICS["depth_absrel_aligned"]()
    metric.update(read, z)
    assert metric.compute() < 0.5 * z.max() * (y.max() - y.min()) / 223


def test_relative_depth_of_one_depth_or_none():
    task = RelativeDepth(RelativeDepthConfig())
    assert set(np.unique(task.render(np.full((3, 4), 2.0)))) == {144}
    assert not task.render(np.zeros((3, 4))).any()
