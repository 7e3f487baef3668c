import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lvmlite.tasks.components import areas, bounds, components, settle


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    share=st.floats(0, 1),
    connectivity=st.sampled_from([4, 8]),
    seed=st.integers(0, 999),
)
def test_equal_to_scipy_and_numbered_in_raster_order(shape, share, connectivity, seed):
    mask = np.random.default_rng(seed).random(shape) < share
    labels = components(mask, connectivity)
    expected, n = ndimage.label(mask, np.ones((3, 3)) if connectivity == 8 else None)
    assert labels.dtype == np.int32
    assert np.array_equal(labels != 0, mask)
    assert labels.max() == n
    assert len(np.unique(np.stack([labels, expected]).reshape(2, -1), axis=1).T) == len(np.unique(labels))
    first = np.unique(labels[mask], return_index=True)[1]
    assert np.array_equal(first, np.sort(first))
    assert areas(labels).sum() == mask.size
    for box, (rows, columns) in zip(bounds(labels), ndimage.find_objects(labels)):
        assert box.tolist() == [columns.start, rows.start, columns.stop, rows.stop]


def test_only_equal_ids_hang_together():
    ids = np.array([[1, 1, 2], [2, 1, 2], [2, 0, 2]], np.uint8)
    assert components(ids).tolist() == [[1, 1, 2], [3, 1, 2], [3, 0, 2]]
    assert bounds(components(ids)).tolist() == [[0, 0, 2, 2], [2, 0, 3, 3], [0, 1, 1, 3]]


def test_a_row_does_not_hang_on_to_the_start_of_the_next():
    mask = np.array([[0, 0, 1], [1, 0, 0]], bool)
    assert components(mask, 8).tolist() == [[0, 0, 1], [2, 0, 0]]
    assert components(np.array([[0, 1], [1, 0]], bool), 4).max() == 2
    assert components(np.array([[0, 1], [1, 0]], bool), 8).max() == 1


def test_settling_keeps_what_is_exact_or_broad_and_drops_fringes():
    truth = np.zeros((12, 12), int)
    truth[3:8, 3:8] = 1
    ids = truth.copy()
    ids[3:8, 8] = 2  # a fringe
    ids[11, 0] = 3  # a speck
    never, always = np.zeros((12, 12), bool), np.ones((12, 12), bool)
    settled = settle(ids, never)
    settled[:, 8] = 0  # the fringe goes to either side
    assert np.array_equal(settled, truth)
    assert set(np.unique(settle(ids, never))) == {0, 1}
    assert np.array_equal(settle(ids, always), ids)
    speck = np.array([[1, 2], [3, 4]])
    assert np.array_equal(settle(speck, np.zeros((2, 2), bool)), speck)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_map_has_none(shape):
    assert components(np.zeros(shape, bool)).shape == shape
