import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.images import Unreadable
from lvmlite.tasks import palettes
from lvmlite.tasks.segmentation import Segmentation, SegmentationConfig


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 33), st.integers(1, 33)),
    n=st.integers(1, 40),
    palette=st.sampled_from(["painter150", "distinct"]),
    distance=st.sampled_from(["l1", "l2"]),
    variant=st.integers(0, 3),
    split=st.sampled_from(["train", "val", "test"]),
    dtype=st.sampled_from(["uint8", "uint16", "int64"]),
    seed=st.integers(0, 99),
)
def test_read_inverts_render(shape, n, palette, distance, variant, split, dtype, seed):
    task = Segmentation(SegmentationConfig(palette=palette, n_classes=n, distance=distance, variants=4))
    ids = np.random.default_rng(seed).integers(0, n + 1, shape).astype(dtype)
    assert np.array_equal(task.read(task.render(ids, variant, split), variant, split), ids)


def test_reads_through_noise_below_half_the_distance():
    task = Segmentation(SegmentationConfig(palette="distinct", n_classes=5))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, (64, 64)).astype(np.uint8)
    noise = rng.integers(-42, 43, (64, 64, 3))  # at most 3 * 42 < 255 / 2
    noisy = np.clip(task.render(ids).astype(int) + noise, 0, 255).astype(np.uint8)
    assert np.array_equal(task.read(noisy), ids)


def test_canonical_palette_is_one_for_all_splits_and_variants_differ():
    task = Segmentation(SegmentationConfig(palette="distinct", n_classes=5, variants=3))
    assert np.array_equal(task.palette(0, "test"), palettes.distinct(5))
    assert np.array_equal(task.palette(0, "train"), task.palette(0, "test"))
    tables = [task.palette(v, split) for split in ("train", "test") for v in (0, 1, 2)]
    assert len({table.tobytes() for table in tables}) == 5  # the canonical one counts once
    with pytest.raises(ValueError, match="read-only"):
        task.palette(1)[0] = 1


def test_annotation_is_chosen_by_the_config():
    assert Segmentation(SegmentationConfig(annotation="instances")).annotation == "instances"


@pytest.mark.parametrize("ids", [[[6]], [[-1]]])
def test_an_id_without_a_colour_is_unreadable(ids):
    with pytest.raises(Unreadable) as error:
        Segmentation(SegmentationConfig(n_classes=5)).render(np.array(ids))
    assert error.value.reason == "segmentation: an id without a colour"


@pytest.mark.parametrize(("palette", "n"), [("cityscapes", 19), ("voc", 21)])
@pytest.mark.parametrize("variant", [0, 1])
def test_official_palettes_are_read_exactly(palette, n, variant):
    task = Segmentation(SegmentationConfig(palette=palette, variants=2))
    ids = np.arange(n + 1).repeat(3).reshape(3, n + 1)
    assert np.array_equal(task.read(task.render(ids, variant), variant), ids)


def test_the_two_ade20k_classes_of_one_colour_read_as_the_first():
    task = Segmentation(SegmentationConfig(palette="ade20k"))
    ids = np.arange(151)[None]
    assert np.array_equal(task.read(task.render(ids)), np.where(ids == 49, 7, ids))


def test_a_palette_from_a_file_is_read_when_the_task_is_built(tmp_path):
    config = SegmentationConfig(palette=str(tmp_path / "mine.json"), n_classes=1)
    with pytest.raises(ValueError, match=r"mine\.json: cannot be read"):
        Segmentation(config)
    (tmp_path / "mine.json").write_text("[[9, 8, 7], [1, 2, 3]]")
    assert Segmentation(config).render(np.array([[1, 0]])).tolist() == [[[9, 8, 7], [0, 0, 0]]]
