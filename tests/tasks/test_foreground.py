import numpy as np
import pytest

from lvmlite.images import Geometry
from lvmlite.tasks.foreground import Foreground, ForegroundConfig


@pytest.mark.parametrize(
    ("settings", "foreground"),
    [({}, {1, 2, 3}), ({"classes": [2]}, {2}), ({"exclude": [1]}, {2, 3}), ({"classes": [9]}, set())],
)
def test_which_ids_are_foreground(settings, foreground):
    ids = np.array([[0, 1], [2, 3]], np.uint8)
    task = Foreground(ForegroundConfig(**settings))
    mask = task.fit(ids, Geometry(size=2), (2, 2))
    assert mask.dtype == np.uint8
    assert set(ids[mask == 1]) == foreground
    assert np.array_equal(task.read(task.render(mask)), mask)
    assert np.array_equal(task.render(mask)[mask == 1], np.full((len(foreground), 3), 255))


def test_the_nearer_of_black_and_white_is_read():
    picture = np.array([[[127, 127, 127], [128, 128, 128], [127, 127, 128], [128, 128, 127], [0, 127, 255]]], np.uint8)
    assert Foreground(ForegroundConfig()).read(picture).tolist() == [[0, 1, 0, 1, 0]]


def test_both_lists_are_refused():
    with pytest.raises(ValueError, match="classes and exclude are both given"):
        ForegroundConfig(classes=[1], exclude=[2])
