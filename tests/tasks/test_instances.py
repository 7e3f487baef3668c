import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Unreadable
from lvmlite.tasks.instances import Instances, InstancesConfig
from lvmlite.tasks.places import cells, renumber


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 33), st.integers(1, 33)),
    n=st.integers(0, 60),
    variant=st.integers(0, 2),
    split=st.sampled_from(["train", "val", "test"]),
    seed=st.integers(0, 999),
)
def test_read_inverts_render_but_for_the_numbers(shape, n, variant, split, seed):
    rng = np.random.default_rng(seed)
    numbers = (rng.integers(0, n + 1, shape) * rng.integers(1, 900)).astype(np.uint16)
    task = Instances(InstancesConfig(variants=3))
    read = task.read(task.render(numbers, variant, split), variant, split)
    assert read.dtype == np.uint16
    assert np.array_equal(read, renumber(numbers))


def test_colour_says_where_an_object_is_and_not_its_number():
    task = Instances(InstancesConfig())
    numbers = np.zeros((64, 64), np.uint16)
    numbers[2:7, 2:7], numbers[50:60, 30:40] = 1, 2
    other = np.where(numbers == 1, 9, np.where(numbers == 2, 4, 0)).astype(np.uint16)
    assert np.array_equal(task.render(numbers), task.render(other))
    assert task.render(numbers)[4, 4].tolist() == task.palette()[1].tolist()  # the first cell
    assert not task.render(numbers)[0, 0].any()


def test_the_bigger_object_has_the_cell_and_the_other_the_next():
    numbers = np.zeros((8, 8), int)
    numbers[0, :2], numbers[1, 0] = 5, 3
    assert [x.tolist() for x in cells(numbers, 2, 2)] == [[3, 5], [2, 0]]
    assert cells(numbers, 1, 1)[1].tolist() == [-1, 0]
    assert cells(np.zeros((2, 2), int), 2, 2)[0].tolist() == []


def test_more_objects_than_colours_are_unreadable():
    with pytest.raises(Unreadable) as error:
        Instances(InstancesConfig(grid=2)).render(np.arange(6)[None])
    assert error.value.reason == "instances: more objects than colours"


def test_parts_are_split_where_asked_for():
    numbers = np.array([[1, 1, 0, 1, 1]], np.uint16)
    picture = Instances(InstancesConfig()).render(numbers)
    assert Instances(InstancesConfig()).read(picture).tolist() == [[1, 1, 0, 1, 1]]
    assert Instances(InstancesConfig(split_parts=True)).read(picture).tolist() == [[1, 1, 0, 2, 2]]


def test_noise_and_blurred_edges_make_no_objects():
    numbers = np.zeros((64, 64), np.uint16)
    numbers[5:30, 5:30], numbers[5:30, 30:60] = 1, 2
    task = Instances(InstancesConfig())
    picture = task.render(numbers).astype(float)
    blurred = (picture + np.roll(picture, 1, 0) + np.roll(picture, 1, 1)) / 3
    noise = np.random.default_rng(0).integers(-6, 7, picture.shape)
    read = task.read(np.clip(blurred + noise, 0, 255).astype(np.uint8))
    assert read.max() == 2
    assert (read == numbers).mean() > 0.95
