import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Geometry
from lvmlite.tasks.disparity import Disparity, DisparityConfig


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 70)), share=st.floats(0.01, 1), seed=st.integers(0, 999)
)  # fmt: skip
def test_read_inverts_render_up_to_the_stated_loss(shape, share, seed):
    task = Disparity(DisparityConfig(max_share=share))
    rng = np.random.default_rng(seed)
    white = share * shape[1]
    truth = (white * rng.random(shape) ** 3).astype(np.float32)
    truth[rng.random(shape) < 0.2] = 0
    picture = task.render(truth)
    read = task.read(picture)
    assert read.dtype == np.float32
    assert np.array_equal(read > 0, truth > 0)
    assert np.abs(read - truth).max() <= white / 446 + 1e-5 * white
    assert np.array_equal(task.render(read), picture)


def test_near_is_bright_and_what_is_beyond_is_white():
    task = Disparity(DisparityConfig(max_share=0.5))
    truth = np.array([[2.0, 1.0, 1e-9, 3.0, np.inf, 0, -1.0, np.nan]], np.float32)
    grey = task.render(truth)[0, :, 0].tolist()
    assert grey == [144, 88, 32, 199, 255, 0, 0, 0]
    truth[0, 0] = 4.5
    assert task.render(truth)[0, 0].tolist() == [255, 255, 255]


def test_unknown_and_far_survive_fifteen_grey_levels():
    task = Disparity(DisparityConfig())
    picture = task.render(np.array([[0.0, 1e-6]], np.float32)).astype(int)
    for shift in (-15, 15):
        read = task.read(np.clip(picture + shift, 0, 255).astype(np.uint8))
        assert (read > 0).tolist() == [[False, True]]


@pytest.mark.parametrize(("fit", "ratio"), [("squash", 16 / 50), ("crop", 16 / 30), ("pad", 16 / 50)])
def test_fit_scales_with_the_width_and_unfit_undoes_it(fit, ratio):
    task, geometry = Disparity(DisparityConfig()), Geometry(size=16, fit=fit)
    truth = np.full((30, 50), 5.0, np.float32)
    fitted = task.fit(truth, geometry, (30, 50))
    assert fitted.dtype == np.float32
    assert np.unique(fitted[fitted > 0]) == pytest.approx([5 * ratio])
    back = task.unfit(fitted, geometry, (30, 50))
    assert back.shape == (30, 50)
    assert back.dtype == np.float32
    assert np.unique(back[back > 0]) == pytest.approx([5.0])
    assert (back > 0).mean() == pytest.approx(0.6 if fit == "crop" else 1)
