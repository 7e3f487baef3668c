import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from lvmlite.tasks.photometric import Colourisation, ColourisationConfig, Inpainting, InpaintingConfig

SHAPES = st.tuples(st.integers(1, 33), st.integers(1, 33))


def photo(shape, seed):
    return np.random.default_rng(seed).integers(1, 256, (*shape, 3), dtype=np.uint8)


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 999))
def test_colourisation_is_rec601_luma_and_inverts_exactly(shape, seed):
    task = Colourisation(ColourisationConfig())
    image = photo(shape, seed)
    grey = task.derive(image, np.random.default_rng(0))
    assert grey.dtype == np.uint8
    assert np.abs(grey.astype(int) - np.asarray(Image.fromarray(image).convert("L")).astype(int)).max() <= 1
    assert np.abs(grey - image @ np.array([0.299, 0.587, 0.114])).max() <= 0.5 + 1e-9
    assert np.array_equal(task.read(task.render(grey)), grey)


def test_every_grey_reads_back():
    task = Colourisation(ColourisationConfig())
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(task.read(task.render(grey)), grey)


@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(st.integers(16, 70), st.integers(16, 70)), seed=st.integers(0, 9999))
def test_inpainting_cuts_rectangles_of_the_stated_area(shape, seed):
    task = Inpainting(InpaintingConfig())
    image = photo(shape, seed)
    holes = task.derive(image, np.random.default_rng(seed))
    mask = ~holes.any(-1)
    assert np.array_equal(holes[~mask], image[~mask])
    assert 0.10 <= mask.mean() <= 0.35
    assert ndimage.label(mask)[1] <= 3
    assert np.array_equal(task.read(task.render(holes)), holes)


def test_inpainting_varies_in_number_and_place():
    task = Inpainting(InpaintingConfig())
    image = photo((64, 64), 0)
    masks = [~task.derive(image, np.random.default_rng(seed)).any(-1) for seed in range(200)]
    pieces = [ndimage.label(mask)[1] for mask in masks]
    assert set(pieces) == {1, 2, 3}
    cover = np.mean(masks, 0)
    assert cover.max() < 0.6
    assert cover[8:-8, 8:-8].min() > 0.05
    assert (cover > 0).mean() > 0.99


def test_inpainting_follows_its_settings():
    task = Inpainting(InpaintingConfig(max_boxes=1, min_area=0.5, max_area=0.6))
    for seed in range(20):
        mask = ~task.derive(photo((40, 40), seed), np.random.default_rng(seed)).any(-1)
        assert 0.5 <= mask.mean() <= 0.6
        assert ndimage.label(mask)[1] == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (1, 40)])
def test_inpainting_of_a_few_pixels_ends(shape):
    image = photo(shape, 0)
    holes = Inpainting(InpaintingConfig()).derive(image, np.random.default_rng(0))
    assert holes.shape == image.shape
