"""The source `ade20k`: the official layout, and what may be wrong with it."""

from __future__ import annotations

import numpy as np
import pytest

from lvmlite.data.sources.ade20k import Ade20k, Ade20kConfig
from lvmlite.images import decode
from lvmlite.sample import split_of

from .layouts import ade20k
from .layouts.ade20k import SHAPE
from .layouts.pictures import picture, save


@pytest.fixture
def root(tmp_path):
    return ade20k.write(tmp_path / "ADEChallengeData2016")


def ade(root, **options) -> Ade20k:
    return Ade20k(Ade20kConfig(path=str(root), **options))


def test_the_official_layout(root, read):
    source = ade(root)
    samples, rejects = read(source)
    assert rejects == []
    assert [s.key for s in samples] == [
        *(f"images/training/ADE_train_{i:08d}.jpg" for i in (1, 2, 3)),
        "images/validation/ADE_val_00000001.jpg",
    ]
    assert [s.category for s in samples] == ["airport terminal", "street", None, "airport terminal"]
    assert [s.split for s in samples] == [split_of(s.group, 0.02, 0) for s in samples[:3]] + ["test"]
    assert source.class_names[:2] == ("class1", "class2")
    assert source.annotations == ("classes",)
    for s in samples:
        frame = s.frames[0]
        assert np.array_equal(frame["image"], decode(root / s.key))
        assert frame["classes"].dtype == np.uint8
        assert np.array_equal(frame["classes"], ade20k.CLASSES)


def test_the_validation_set_as_val(root, read):
    assert [s.split for s in read(ade(root, val_as="val", val=1.0))[0]] == ["train"] * 3 + ["val"]
    assert [s.split for s in read(ade(root, val=1.0))[0]] == ["val"] * 3 + ["test"]


def test_partners_that_are_missing(root, read):
    (root / "annotations/training/ADE_train_00000002.png").unlink()
    (root / "images/training/ADE_train_00000003.jpg").unlink()
    (root / "sceneCategories.txt").unlink()
    (root / "objectInfo150.txt").unlink()
    source = ade(root)
    samples, rejects = read(source)
    assert {(r.key, r.reason) for r in rejects} == {
        ("images/training/ADE_train_00000002.jpg", "map is missing"),
        ("annotations/training/ADE_train_00000003.png", "photo is missing"),
    }
    assert [s.category for s in samples] == [None, None]
    assert source.class_names == ()


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full(SHAPE, 151), "map with unknown ids"),
        (np.zeros((5, 5)), "map and photo differ in size"),
        (picture(0, SHAPE), "not a map of ids"),
    ],
)
def test_maps_that_cannot_be_used(root, pixels, reason):
    save(root / "annotations/training/ADE_train_00000001.png", pixels)
    with pytest.raises(ValueError, match=reason):
        ade(root).sample("images/training/ADE_train_00000001.jpg").frames[0]


def test_a_table_of_another_data_set_is_one_line(root):
    (root / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n")
    with pytest.raises(ValueError, match=r"objectInfo150\.txt: expected 150 classes"):
        ade(root)


def test_another_layout_is_one_line(root):
    with pytest.raises(ValueError, match=r"expected images/training/\*\.jpg"):
        ade(root / "annotations" / "training")


def test_max_samples(root):
    assert len(ade(root, max_samples=2).entries) == 2
