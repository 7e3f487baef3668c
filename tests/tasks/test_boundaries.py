import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Geometry, Unreadable
from lvmlite.tasks.boundaries import Boundaries, BoundariesConfig

TASK = Boundaries(BoundariesConfig())


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(st.integers(1, 33), st.integers(1, 33)), seed=st.integers(0, 999))
def test_read_inverts_render_up_to_half_a_grey_level(shape, seed):
    share = np.random.default_rng(seed).random(shape, dtype=np.float32)
    picture = TASK.render(share)
    read = TASK.read(picture)
    assert read.dtype == np.float32
    assert np.abs(read - share).max() <= 1 / 510 + 1e-6
    assert np.array_equal(TASK.render(read), picture)


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    size=st.integers(1, 40),
    fit=st.sampled_from(["squash", "crop", "pad"]),
    seed=st.integers(0, 999),
)
def test_fit_is_the_greatest_of_the_pixels_that_fall_on_one(shape, size, fit, seed):
    """Against a loop over source pixels (reduced axes), and the nearest pixel (enlarged axes)."""
    rng = np.random.default_rng(seed)
    share = (rng.integers(0, 6, shape) / 5).astype(np.float32)
    geometry = Geometry(size=size, fit=fit)
    fitted = TASK.fit(share, geometry, shape)
    assert fitted.shape == (size, size)
    assert fitted.dtype == np.float32
    (top, left, height, width), (y0, x0, h, w) = geometry.boxes(shape)
    expected = np.zeros((size, size), np.float32)

    def goes_to(i, m, n):  # source index -> target indices
        if m >= n:
            return [int((i + 0.5) * n / m)] if (2 * i + 1) * n // (2 * m) < n else []
        return [k for k in range(n) if ((2 * k + 1) * m) // (2 * n) == i]

    for i in range(height):
        for j in range(width):
            for y in goes_to(i, height, h):
                for x in goes_to(j, width, w):
                    at = y0 + y, x0 + x
                    expected[at] = max(expected[at], share[top + i, left + j])
    assert np.array_equal(fitted, expected)


@pytest.mark.parametrize("row", range(0, 300, 37))
def test_a_line_of_one_pixel_survives_reduction(row):
    share = np.zeros((301, 457), np.float32)
    share[row] = 0.2
    share[:, row + 3] = 0.6
    fitted = TASK.fit(share, Geometry(size=64), share.shape)
    assert (fitted.max(axis=1) == np.float32(0.6)).all()
    assert (fitted.max(axis=0) >= np.float32(0.2)).all()
    assert (fitted > 0).sum() == 127


def test_of_its_own_size_nothing_changes():
    share = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    assert np.array_equal(TASK.fit(share, Geometry(size=32), (32, 32)), share)


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, np.inf])
def test_what_is_no_share_is_unreadable(value):
    share = np.zeros((20, 20), np.float32)
    share[3, 3] = value
    with pytest.raises(Unreadable, match="no shares between 0 and 1"):
        TASK.fit(share, Geometry(size=16), (20, 20))
    with pytest.raises(Unreadable, match="no shares"):
        TASK.fit(np.zeros((20, 20, 3), np.float32), Geometry(size=16), (20, 20))
