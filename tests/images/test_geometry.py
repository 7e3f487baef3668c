"""Geometry: pictures and maps stay aligned, and come back to the query's size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Geometry, resize, shrink

FITS = ("squash", "crop", "pad")
FILTERS = ("bilinear", "bicubic", "lanczos")
SHAPES = [(64, 64), (37, 91), (200, 50), (301, 299), (9, 5), (1, 1), (1, 7), (33, 32)]


def gradient(shape: tuple[int, int], axis: int) -> np.ndarray:
    """A picture whose level says where a pixel's centre lies: 255 * (i + 0.5) / n along an axis."""
    n = shape[axis]
    level = np.rint(255 * (np.arange(n) + 0.5) / n).astype(np.uint8)
    plane = level[:, None] if axis == 0 else level[None]
    return np.repeat(np.broadcast_to(plane, shape)[..., None], 3, -1)


def inner(geometry: Geometry, shape: tuple[int, int]) -> tuple[slice, slice]:
    """The part of the square that the picture fills."""
    top, left, height, width = geometry.boxes(shape)[1]
    return slice(top, top + height), slice(left, left + width)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("antialias", [True, False])
def test_a_picture_and_a_map_of_the_same_scene_agree(fit, filter, antialias):
    for shape in SHAPES:
        for size in (16, 63, 128):
            geometry = Geometry(size, fit, filter, antialias)
            part = inner(geometry, shape)
            for axis in (0, 1):
                scene = gradient(shape, axis)
                picture, mapped = geometry.image(scene), geometry.map(scene[..., 0])
                assert picture.shape == (size, size, 3)
                # Nearest is off by half a source pixel, the picture's edge by as much again, and rounding by 1.
                tolerance = 255 / shape[axis] + 2
                difference = picture[part][..., 0].astype(float) - mapped[part]
                assert np.abs(difference).max() <= tolerance, (shape, size, axis)
                # No shift. An even reduction leaves half a pixel: there the centre lies between two.
                assert abs(difference.mean()) <= 127.5 / shape[axis] + 1, (shape, size, axis)


def test_a_map_takes_the_pixel_under_each_centre():
    x = np.arange(10)[None] * np.ones((3, 1), int)
    assert Geometry(5, "squash").map(x)[0].tolist() == [1, 3, 5, 7, 9]
    assert Geometry(3, "squash").map(x)[0].tolist() == [1, 5, 8]
    assert Geometry(3, "crop").map(x)[0].tolist() == [3, 4, 5]
    padded = Geometry(10, "pad").map(x, fill=-1)
    assert padded[3:6].tolist() == x.tolist()
    assert (np.delete(padded, [3, 4, 5], 0) == -1).all()


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    size=st.integers(1, 70),
    fit=st.sampled_from(FITS),
    dtype=st.sampled_from(["uint8", "uint16", "int64", "float32", "bool"]),
    channels=st.sampled_from([(), (1,), (3,)]),
)
@settings(max_examples=100, deadline=None)
def test_a_map_keeps_dtype_and_invents_no_value(shape, size, fit, dtype, channels):
    geometry = Geometry(size, fit)
    x = (np.random.default_rng(0).integers(0, 1000, (*shape, *channels)) % 60_000).astype(dtype)
    out = geometry.map(x, fill=0)
    assert out.shape == (size, size, *channels)
    assert out.dtype == x.dtype
    assert set(np.unique(out)) <= {*np.unique(x), x.dtype.type(0)}
    back = geometry.invert_map(out, shape, fill=0)
    assert back.shape == x.shape
    assert back.dtype == x.dtype


def test_going_up_and_back_is_exact_for_maps():
    x = np.random.default_rng(0).integers(0, 9, (20, 31))
    for fit in ("squash", "pad"):
        geometry = Geometry(93, fit)
        assert np.array_equal(geometry.invert_map(geometry.map(x), x.shape), x)
    cut = Geometry(60, "crop")
    back = cut.invert_map(cut.map(x), x.shape, fill=-1)
    assert np.array_equal(back[:, 5:25], x[:, 5:25])
    assert (back[:, :5] == -1).all()
    assert (back[:, 25:] == -1).all()


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_comes_back_where_it_was(fit):
    shape = (60, 81)
    for axis in (0, 1):
        scene = gradient(shape, axis)
        geometry = Geometry(128, fit)
        back = geometry.invert_image(geometry.image(scene), shape, fill=99)
        top, left, height, width = geometry.boxes(shape)[0]
        kept = np.s_[top : top + height, left : left + width]
        assert back.shape == scene.shape
        assert np.abs(back[kept].astype(int) - scene[kept]).max() <= 4
        if fit == "crop":
            assert (back[:, :left] == 99).all()
            assert (back[:, left + width :] == 99).all()


def test_pad_fills_with_zero():
    out = Geometry(10, "pad").image(np.full((5, 10, 3), 200, np.uint8))
    assert (out[2:7] == 200).all()
    assert (np.delete(out, np.s_[2:7], 0) == 0).all()


@pytest.mark.parametrize("size", [(7, 50), (64, 9), (96, 96)])
def test_without_antialias_bilinear_is_torchs(size):
    x = np.random.default_rng(0).integers(0, 256, (41, 29, 3)).astype(np.uint8)
    tensor = torch.from_numpy(x).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)
    expected = expected[0].permute(1, 2, 0).round().clamp(0, 255).numpy()
    difference = np.abs(resize(x, size, "bilinear", antialias=False) - expected)
    assert difference.max() <= 1  # ties may round either way
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("filter", FILTERS)
def test_enlarging_does_not_depend_on_antialias(filter):
    x = np.random.default_rng(0).integers(90, 160, (12, 15, 3)).astype(np.uint8)
    a, b = (resize(x, (36, 45), filter, antialias).astype(int) for antialias in (True, False))
    assert np.abs(a - b)[12:-12, 12:-12].max() <= 2  # edges differ: Pillow drops what lies outside


def test_the_same_size_changes_nothing():
    x = np.random.default_rng(0).integers(0, 256, (17, 17, 3)).astype(np.uint8)
    for fit in FITS:
        assert np.array_equal(Geometry(17, fit).image(x), x)


def test_shrink_bounds_the_short_side_and_never_enlarges():
    assert shrink(np.zeros((100, 300, 3), np.uint8), 50).shape == (50, 150, 3)
    assert shrink(np.zeros((1, 3000, 3), np.uint8), 50).shape == (1, 3000, 3)
    assert shrink(np.zeros((30, 20, 3), np.uint8), 50).shape == (30, 20, 3)
