import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Unreadable
from lvmlite.metrics.instances import PanopticQuality
from lvmlite.tasks import palettes
from lvmlite.tasks.panoptic import Panoptic, PanopticConfig


def partition(a, b):
    """How many pairs of ids the two maps have: as many as each alone where they divide alike."""
    return len(np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).T)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 33), st.integers(1, 33)),
    palette=st.sampled_from(["distinct", "painter150", "cityscapes", "voc"]),
    variant=st.integers(0, 2),
    split=st.sampled_from(["train", "test"]),
    seed=st.integers(0, 999),
)
def test_up_to_eight_objects_of_a_class_are_exact_but_for_numbers(shape, palette, variant, split, seed):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 20, shape)
    ids = (classes * 1000 + np.where(classes > 0, rng.integers(0, 9, shape) * 7, 0)).astype(np.int32)
    task = Panoptic(PanopticConfig(palette=palette, variants=3))
    read = task.read(task.render(ids, variant, split), variant, split)
    assert read.dtype == np.int32
    assert np.array_equal(read // 1000, classes)
    assert np.array_equal(read % 1000 == 0, ids % 1000 == 0)
    assert partition(ids, read) == len(np.unique(ids)) == len(np.unique(read))


@pytest.mark.parametrize("palette", ["distinct", "painter150"])
def test_the_nearest_class_colour_is_always_the_own(palette):
    task = Panoptic(PanopticConfig(palette=palette))
    ids = (np.arange(1, 151)[:, None] * 1000 + np.arange(9)).astype(np.int32)
    assert np.array_equal(palettes.nearest(task.render(ids), task.palette()), ids // 1000)


def test_objects_beyond_eight_are_read_as_connected_parts():
    ids = np.zeros((3, 40), np.int32)
    for k in range(12):
        ids[:, 3 * k : 3 * k + 2] = 5001 + k
    task = Panoptic(PanopticConfig())
    read = task.read(task.render(ids))
    assert partition(ids, read) == 13
    touching = np.where(ids == 0, 0, ids).astype(np.int32)
    touching[:, 2::3] = touching[:, 1::3][:, :13]
    read = task.read(task.render(touching))
    assert len(np.unique(read)) < 13  # those that share the shade merge
    assert np.array_equal(read // 1000, touching // 1000)


def test_a_class_without_a_colour_is_unreadable_and_a_palette_without_room_refused():
    task = Panoptic(PanopticConfig(n_classes=5))
    for bad in (6000, -1):
        with pytest.raises(Unreadable) as error:
            task.render(np.array([[bad]], np.int32))
        assert error.value.reason == "panoptic: an id without a colour"
    with pytest.raises(ValueError, match="palette ade20k has two colours closer than 6 levels"):
        Panoptic(PanopticConfig(palette="ade20k"))


def test_reads_through_noise():
    ids = np.kron(np.array([[1000, 2001], [2002, 3000]], np.int32), np.ones((16, 16), np.int32))
    task = Panoptic(PanopticConfig(n_classes=5))
    noise = np.random.default_rng(0).integers(-6, 7, (32, 32, 3))
    read = task.read(np.clip(task.render(ids) + noise, 0, 255).astype(np.uint8))
    metric = PanopticQuality()
    metric.update(read, ids)
    assert metric.compute() > 0.95
