"""The source `vipseg`: the published layout and its reduced form, and what the masks mean."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lvmlite.data.sources.vipseg import Vipseg, VipsegConfig, unpack
from lvmlite.images import Unreadable

from .layouts.pictures import picture, save
from .layouts.vipseg import PERSON, ROAD, SIZE, TRAIN, WALL, mask, write


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "VIPSeg")


def vipseg(path, **options) -> Vipseg:
    return Vipseg(VipsegConfig(str(path), **options))


def test_masks_are_panoptic_classes_and_instances(root, read, same):
    source = vipseg(root, val=0)
    samples, rejects = read(source)
    assert [(s.key, s.group, s.split, len(s.frames)) for s in samples] == [
        ("0_wHIYJjDGIEk#000000", "0_wHIYJjDGIEk", "train", 4),
        ("1001_5z1ijI#000000", "1001_5z1ijI", "test", 4),
    ]
    assert {r.key: r.reason for r in rejects} == {
        ".": "not listed, by suffix: 1 .json",
        "1002_missing": "listed, but not there",
        "1003_test": "no masks",
        "imgs/": "videos in no list: 1",
    }
    assert source.frame_step == 3
    first, last = samples[0].frames[0], samples[0].frames[3]
    assert {name: (x.dtype, x.shape) for name, x in first.items()} == {
        "image": (np.uint8, (*SIZE, 3)),
        "panoptic": (np.int32, SIZE),
        "classes": (np.uint8, SIZE),
        "instances": (np.uint16, SIZE),
    }
    assert set(source.annotations) == set(first) - {"image"}
    pixels = {"nothing": (0, 0), "wall": (1, 0), "road": (11, 0), "first": (4, 1), "second": (4, 5)}
    assert {name: int(first["panoptic"][at]) for name, at in pixels.items()} == {
        "nothing": 0,
        "wall": 1000,
        "road": 19000,
        "first": 61001,
        "second": 61002,
    }
    assert [int(first["classes"][at]) for at in pixels.values()] == [0, WALL, ROAD, PERSON, PERSON]
    assert first["instances"][0, 0] == first["instances"][1, 0] == 0
    assert 0 < first["instances"][4, 1] < first["instances"][4, 5] == last["instances"][4, 8]
    assert same(samples[0], source.sample(samples[0].key))


@pytest.mark.parametrize("lists", ["beside", "inside"])
def test_the_reduced_form(root, read, lists):
    reduced = root / "VIPSeg_720P"
    reduced.mkdir()
    shutil.move(root / "imgs", reduced / "images")
    shutil.move(root / "panomasks", reduced / "panomasks")
    if lists == "inside":
        for name in ("train.txt", "val.txt", "test.txt"):
            shutil.move(root / name, reduced / name)
    samples, _ = read(vipseg(root if lists == "beside" else reduced, val_as="val"))
    assert [(s.group, s.split) for s in samples] == [("0_wHIYJjDGIEk", "train"), ("1001_5z1ijI", "val")]


def test_a_thing_without_a_number_and_the_last_class():
    found = unpack(np.array([[PERSON, TRAIN, TRAIN * 100, TRAIN * 100 + 99, 125, 200]], np.uint16))
    assert found["panoptic"].tolist() == [[61000, 124000, 124001, 124100, 1026, 2001]]
    assert found["classes"].tolist() == [[61, 124, 124, 124, 1, 2]]
    assert found["instances"].tolist() == [[0, 0, 12400, 12499, 125, 200]]


def test_masks_that_cannot_be_used(root):
    folder = root / "panomasks/0_wHIYJjDGIEk"
    save(folder / "00000000.png", np.full(SIZE, 12500), np.uint16)
    save(folder / "00000003.png", mask(0)[:, :-1], np.uint16)
    save(folder / "00000006.png", picture(0, SIZE))
    frames = vipseg(root).sample("0_wHIYJjDGIEk#000000").frames
    for t, reason in enumerate(["mask with unknown ids", "mask and photo differ in size", "not a map of ids"]):
        with pytest.raises(Unreadable) as error:
            frames[t]
        assert error.value.reason == reason


def test_a_frame_without_a_mask_is_left_out(root, read):
    (root / "panomasks/1001_5z1ijI/00000003.png").unlink()
    samples, rejects = read(vipseg(root))
    assert [len(s.frames) for s in samples] == [4, 3]
    assert ("1001_5z1ijI", "some frames have no mask: left out") in [(r.key, r.reason) for r in rejects]


def test_a_mistake_is_one_clear_line(root):
    with pytest.raises(ValueError, match=r"expected imgs/<video>/<frame>.jpg and panomasks"):
        vipseg(root / "panomasks")
    for name in ("train.txt", "val.txt", "test.txt"):
        (root / name).unlink()
    with pytest.raises(ValueError, match=r"neither train.txt nor val.txt nor test.txt, which say what to read"):
        vipseg(root)
