"""The source `cityscapes`: the official layout and encodings, and what may be wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from lvmlite.data.sources.cityscapes import CLASSES, LABEL_IDS, Cityscapes, CityscapesConfig
from lvmlite.images import decode
from lvmlite.sample import split_of

from .layouts import cityscapes
from .layouts.cityscapes import SHAPE, STEMS, instances, labels
from .layouts.pictures import picture, save

# The benchmark's own table, label id: trainId, of all labels (cityscapesScripts, labels.py).
TRAIN_IDS = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13},
    **{27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
}
NAMES = {7: "road", 17: "pole", 23: "sky", 24: "person", 26: "car", 33: "bicycle"}


@pytest.fixture
def root(tmp_path):
    return cityscapes.write(tmp_path / "cityscapes")


def city(root, **options) -> Cityscapes:
    return Cityscapes(CityscapesConfig(path=str(root), **options))


def first(source: Cityscapes) -> dict:
    return source.sample(f"train/{STEMS['train'][0]}").frames[0]


def test_the_official_layout(root, read):
    source = city(root)
    samples, rejects = read(source)
    assert rejects == []
    assert [s.key for s in samples] == [f"{split}/{stem}" for split in ("train", "val") for stem in STEMS[split]]
    assert [s.group for s in samples] == ["aachen_000000", "aachen_000000", "ulm_000001", "lindau_000000"]
    assert [s.split for s in samples] == [split_of(s.group, 0.02, 0) for s in samples[:3]] + ["test"]
    assert source.annotations == ("classes", "instances", "panoptic")
    for s in samples:
        assert list(s.frames[0]) == ["image", *source.annotations]
        photo = root / f"leftImg8bit/{s.key}_leftImg8bit.png"
        assert np.array_equal(s.frames[0]["image"], decode(photo))


def test_classes_are_the_benchmark_s_and_the_rest_is_unlabelled(root):
    classes = first(city(root))["classes"]
    assert classes.dtype == np.uint8
    for label in range(34):
        assert set(classes[labels() == label]) == {TRAIN_IDS.get(label, -1) + 1}, label
    assert len(CLASSES) == len(LABEL_IDS) == 19
    assert {label: CLASSES[TRAIN_IDS[label]] for label in NAMES} == NAMES


def test_number_plates_are_unlabelled(root):
    save(root / f"gtFine/train/{STEMS['train'][0]}_gtFine_labelIds.png", np.full(SHAPE, 255))
    assert not first(city(root))["classes"].any()


def test_instances_and_panoptic(root):
    frame, ids = first(city(root)), instances()
    assert (frame["instances"].dtype, frame["panoptic"].dtype) == (np.uint16, np.int32)
    of = {26000: (2, 14001), 26007: (3, 14008), 25000: (1, 13001), 29000: (0, 0), 24: (0, 0), 7: (0, 1000), 0: (0, 0)}
    assert set(np.unique(ids)) == set(of)
    for stored, (instance, panoptic) in of.items():
        assert set(frame["instances"][ids == stored]) == {instance}, stored
        assert set(frame["panoptic"][ids == stored]) == {panoptic}, stored


def test_disparity_where_it_is_there(root, read):
    cityscapes.write_disparity(root)
    source = city(root)
    assert source.annotations[-1] == "disparity"
    disparity = first(source)["disparity"]
    assert disparity.dtype == np.float32
    assert disparity[0, ::4].tolist() == [0, 0, 1, 65534 / 256]
    assert "disparity" not in first(city(root, disparity=False))
    (root / f"disparity/train/{STEMS['train'][0]}_disparity.png").unlink()
    assert [(r.key, r.reason) for r in read(city(root))[1]] == [
        (f"train/{STEMS['train'][0]}", "disparity: file is missing")
    ]


def test_partners_that_are_missing(root, read):
    a, b, c = STEMS["train"]
    (root / f"gtFine/train/{a}_gtFine_labelIds.png").unlink()
    (root / f"gtFine/train/{b}_gtFine_instanceIds.png").unlink()
    (root / f"leftImg8bit/train/{c}_leftImg8bit.png").unlink()
    samples, rejects = read(city(root))
    assert [(r.key, r.reason) for r in rejects] == [
        (f"train/{a}", "labels: file is missing"),
        (f"train/{b}", "instances: file is missing"),
        (f"train/{c}", "photo is missing"),
    ]
    assert len(samples) == 1


@pytest.mark.parametrize(
    ("suffix", "pixels", "reason"),
    [
        ("labelIds", np.full(SHAPE, 34), "map with unknown ids"),
        ("labelIds", np.zeros((4, 4)), "classes and photo differ in size"),
        ("labelIds", picture(0, SHAPE), "not a map of ids"),
        ("instanceIds", np.full(SHAPE, 34000), "map with unknown ids"),
        ("instanceIds", np.full(SHAPE, 40), "map with unknown ids"),
        ("instanceIds", np.full(SHAPE, 26999), "more objects of a class than can be numbered"),
        ("instanceIds", np.zeros((4, 4)), "instances and photo differ in size"),
    ],
)
def test_maps_that_cannot_be_used(root, suffix, pixels, reason):
    dtype = np.uint16 if suffix == "instanceIds" else np.uint8
    save(root / f"gtFine/train/{STEMS['train'][0]}_gtFine_{suffix}.png", pixels, dtype)
    with pytest.raises(ValueError, match=reason):
        first(city(root))


def test_another_layout_is_one_line(root):
    with pytest.raises(ValueError, match="expected leftImg8bit/train/<city>"):
        city(root / "gtFine")
