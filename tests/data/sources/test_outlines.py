"""Outlines of objects: polygons and run lengths, compared with pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as reference

from lvmlite.data.sources.outlines import BAD, fill_outline, pack_outline
from lvmlite.images import Unreadable


def filled(segmentation, shape) -> np.ndarray:
    return fill_outline(pack_outline(segmentation, shape), shape)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_run_lengths_are_read_as_pycocotools_writes_them(height, width, seed):
    rng = np.random.default_rng(seed)
    truth = rng.random((height, width)) < rng.random()
    packed = reference.encode(np.asfortranarray(truth.astype(np.uint8)))
    compressed = {"size": [height, width], "counts": packed["counts"].decode()}
    assert np.array_equal(filled(compressed, (height, width)), truth)
    column = truth.ravel(order="F").astype(int)
    borders = [0, *(np.flatnonzero(np.diff(column)) + 1).tolist(), column.size]
    runs = ([0] if column[0] else []) + np.diff(borders).tolist()
    assert np.array_equal(filled({"size": [height, width], "counts": runs}, (height, width)), truth)


def test_long_runs_are_read():
    truth = np.zeros((700, 900), bool)
    truth[3:640, 100:800] = True
    truth[20:30, 5] = True
    packed = reference.encode(np.asfortranarray(truth.astype(np.uint8)))
    assert np.array_equal(filled({"size": [700, 900], "counts": packed["counts"].decode()}, (700, 900)), truth)


def test_polygons_are_filled_and_united():
    square, other = [2, 1, 6, 1, 6, 5, 2, 5], [7.5, 2.25, 9.5, 2.25, 9.5, 8.25, 7.5, 8.25]
    expected = np.zeros((10, 12), bool)
    expected[1:5, 2:6] = True
    assert np.array_equal(filled([square], (10, 12)), expected)
    both = filled([square, other], (10, 12))
    truth = reference.decode(reference.merge(reference.frPyObjects([square, other], 10, 12)))
    assert np.array_equal(both, truth.astype(bool))
    assert both.sum() > expected.sum()


def test_a_polygon_a_little_outside_is_cut_off():
    assert filled([[-3, -3, 15, -3, 15, 11, -3, 11]], (8, 12)).all()


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, BAD),
        ([], BAD),
        ("text", BAD),
        ([[1, 2, 3, 4]], BAD),
        ([[1, 2, 3, 4, 5, 6, 7]], BAD),
        ([[1, 2, 3, 4, 5, float("nan")]], BAD),
        ([[1, 2, 3, 4, 5, "6"]], BAD),
        ([1, 2, 3, 4, 5, 6], BAD),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "a segmentation outside its image"),
        ([[0, 0, 5, 0, -1e300, 5]], "a segmentation outside its image"),
        ({"size": [8, 11], "counts": [96]}, "segmentation and photo differ in size"),
        ({"counts": [96]}, "segmentation and photo differ in size"),
        ({"size": [8, 12]}, BAD),
        ({"size": [8, 12], "counts": [95]}, BAD),
        ({"size": [8, 12], "counts": [-4, 100]}, BAD),
        ({"size": [8, 12], "counts": [0.5, 95.5]}, BAD),
        ({"size": [8, 12], "counts": [1e308, 1e308]}, BAD),
        ({"size": [8, 12], "counts": ""}, BAD),
        ({"size": [8, 12], "counts": "é"}, BAD),
        ({"size": [8, 12], "counts": "o"}, BAD),
        ({"size": [8, 12], "counts": "oooooooooooooooooooooooooo0"}, BAD),
    ],
)
def test_what_is_no_outline_is_refused(segmentation, reason):
    with pytest.raises(Unreadable) as info:
        pack_outline(segmentation, (8, 12))
    assert info.value.reason == reason
