import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lvmlite.tasks import edges
from lvmlite.tasks.edges import Edges, EdgesConfig

TASK = Edges(EdgesConfig())
RNG = np.random.default_rng(0)


def disc(size, inside, outside, radius=0.3):
    y, x = np.mgrid[:size, :size]
    away = np.hypot(x - size / 2 + 0.5, y - size / 2 + 0.5) / size
    return np.where((away < radius)[..., None], inside, outside).astype(np.uint8), away


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(st.integers(1, 33), st.integers(1, 33)), seed=st.integers(0, 99))
def test_read_inverts_render_exactly(shape, seed):
    lines = np.random.default_rng(seed).random(shape) < 0.2
    assert np.array_equal(TASK.read(TASK.render(lines)), lines)


@pytest.mark.parametrize("size", [48, 64, 128, 256])
@pytest.mark.parametrize("colours", [((255, 255, 255), (0, 0, 0)), ((200, 60, 60), (60, 130, 60)), (70, 50)])
def test_the_outline_of_a_disc_is_one_thin_closed_line_at_its_place(size, colours):
    """(200, 60, 60) and (60, 130, 60) differ in colour more than in brightness."""
    image, away = disc(size, *colours)
    lines = TASK.derive(image, RNG)
    assert np.abs(away[lines] * size - 0.3 * size).max() < 1.5
    assert ndimage.label(lines, np.ones((3, 3)))[1] == 1
    inside = ndimage.binary_fill_holes(lines) & ~lines
    assert inside.sum() > 0.8 * np.pi * (0.3 * size) ** 2
    assert lines.sum() < 1.5 * 2 * np.pi * 0.3 * size


def test_lines_of_a_vertical_and_a_horizontal_border_are_the_same():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 20:] = 255
    lines = TASK.derive(image, RNG)
    assert lines.sum() == 64
    assert set(np.flatnonzero(lines.any(0))) <= {19, 20}
    assert TASK.derive(image.transpose(1, 0, 2), RNG).sum() == 64


def test_flat_and_faintly_shaded_pictures_have_no_lines():
    assert not TASK.derive(np.full((64, 64, 3), 77, np.uint8), RNG).any()
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 64, 0)
    assert not TASK.derive(np.repeat(ramp[..., None], 3, 2), RNG).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2), (33, 57)])
def test_any_shape(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    lines = TASK.derive(image, RNG)
    assert lines.shape == shape
    assert lines.dtype == bool


def test_higher_thresholds_draw_fewer_lines():
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(64, 64, 3)), (2, 2, 0))
    image = np.clip(128 + 300 * image, 0, 255).astype(np.uint8)
    few, many = (Edges(EdgesConfig(high=h, low=h / 2)).derive(image, RNG) for h in (1.7, 1.2))
    assert 0 < few.sum() < 0.7 * many.sum()
    assert not (few & ~many).any()


@pytest.mark.parametrize("sigma", [0.5, 0.7, 1.4, 2.8])
def test_smoothing_is_a_gaussian(sigma):
    x = np.random.default_rng(0).uniform(0, 255, (3, 21, 34)).astype(np.float32)
    radius = int(np.ceil(2.5 * sigma))
    expected = ndimage.gaussian_filter(x, (0, sigma, sigma), mode="nearest", radius=(0, radius, radius))
    assert edges._smooth(x, sigma) == pytest.approx(expected, abs=1e-3)


def test_following_keeps_the_weak_pieces_that_touch_a_strong_pixel():
    rng = np.random.default_rng(0)
    weak = rng.random((60, 50)) < 0.35
    strong = weak & (rng.random((60, 50)) < 0.02)
    labels, _ = ndimage.label(weak, np.ones((3, 3)))
    expected = np.isin(labels, np.unique(labels[strong])) & weak
    assert np.array_equal(edges._follow(strong, weak), expected)
