"""The source `voc`: the official layout and encodings, and what may be wrong with them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lvmlite.data.sources.published import OUTSIDE
from lvmlite.data.sources.voc import CLASSES, Voc, VocConfig
from lvmlite.images import decode
from lvmlite.sample import split_of

from .layouts.pictures import save
from .layouts.voc import LISTS, SHAPE, classes, objects, thing, write, xml


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "VOCdevkit/VOC2012")


def voc(root, **options) -> Voc:
    return Voc(VocConfig(path=str(root), **options))


def first(source: Voc) -> dict:
    return source.sample("2007_000032").frames[0]


def test_the_official_layout(root, read):
    source = voc(root.parent.parent)
    samples, rejects = read(source)
    assert rejects == []
    assert [s.key for s in samples] == [*LISTS["train"], *LISTS["val"]]
    assert [s.split for s in samples] == [split_of(s.group, 0.02, 0) for s in samples[:2]] + ["test"]
    assert source.annotations == ("classes", "instances", "boxes")
    for s in samples:
        assert list(s.frames[0]) == ["image", *source.annotations]
        assert np.array_equal(s.frames[0]["image"], decode(root / f"JPEGImages/{s.key}.jpg"))


def test_classes_and_instances(root):
    frame = first(voc(root))
    assert (frame["classes"].dtype, frame["instances"].dtype) == (np.uint8, np.uint16)
    assert np.array_equal(frame["classes"], np.where(classes() == 255, 0, classes() + 1))
    assert np.array_equal(frame["instances"], np.where(objects() == 255, 0, objects()))


def test_boxes_are_exclusive_numbered_and_cut_off_at_the_border(root):
    boxes = first(voc(root))["boxes"]
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[0, 0, 24, 12, 13, 1], [1.5, 3, 3.5, 6, 2, 2], [19, 1, 24, 3, 21, 3]]
    assert [CLASSES[int(c) - 1] for c in boxes[:, 4]] == ["dog", "aeroplane", "tvmonitor"]
    assert first(voc(root, difficult=False))["boxes"][:, 4:].tolist() == [[13, 1], [21, 3]]


def test_a_photo_without_objects(root):
    (root / "Annotations/2007_000032.xml").write_text(xml())
    assert first(voc(root))["boxes"].shape == (0, 6)


def test_the_main_lists_have_boxes_only(root):
    shutil.rmtree(root / "SegmentationClass")
    source = voc(root, lists="main")
    assert list(first(source)) == ["image", "boxes"]
    assert source.annotations == ("boxes",)


def test_the_augmented_list(root, read):
    (root / "ImageSets/Segmentation/trainaug.txt").write_text("2007_000033\n2007_000099\n")
    for key in ("2007_000033", "2007_000099"):
        save(root / f"SegmentationClassAug/{key}.png", np.full(SHAPE, 20))
    samples, rejects = read(voc(root, augmented=True, val=0.0))
    assert rejects == []
    assert [(s.key, s.split) for s in samples] == [
        ("2007_000033", "train"),
        ("2007_000099", "train"),
        ("2007_000042", "test"),
    ]
    assert list(samples[0].frames[0]) == ["image", "classes", "boxes"]
    assert (samples[1].frames[0]["classes"] == 21).all()
    assert np.array_equal(samples[2].frames[0]["classes"], np.where(classes() == 255, 0, classes() + 1))
    with pytest.raises(ValueError, match="augmented"):
        VocConfig(path="x", augmented=True, lists="main")


def test_the_official_test_list(root, read):
    samples = read(voc(root, test_list=True, val=0.0))[0]
    assert [s.split for s in samples] == ["train", "train", "val", "test"]
    (root / "ImageSets/Segmentation/test.txt").unlink()
    with pytest.raises(ValueError, match=r"no file 'ImageSets/Segmentation/test\.txt'"):
        voc(root, test_list=True)


def test_two_releases_in_one_folder(root):
    other = write(root.parent / "VOC2007")
    (other / "JPEGImages/2007_000032.jpg").unlink()
    assert len(voc(root.parent).entries) == 3
    assert len(voc(root.parent, year=2007).entries) == 2
    other.rename(root.parent / "b")
    root.rename(root.parent / "a")
    with pytest.raises(ValueError, match="2 folders hold ImageSets/Segmentation/"):
        voc(root.parent)


def test_partners_that_are_missing(root, read):
    (root / "JPEGImages/2007_000032.jpg").unlink()
    (root / "SegmentationObject/2007_000033.png").unlink()
    (root / "Annotations/2007_000042.xml").unlink()
    samples, rejects = read(voc(root))
    assert samples == []
    assert [(r.key, r.reason) for r in rejects] == [
        ("2007_000032", "image: file is missing"),
        ("2007_000033", "instances: file is missing"),
        ("2007_000042", "boxes: file is missing"),
    ]


@pytest.mark.parametrize(
    ("folder", "pixels", "reason"),
    [
        ("SegmentationClass", np.full(SHAPE, 21), "map with unknown ids"),
        ("SegmentationClass", np.zeros((4, 4)), "classes and photo differ in size"),
        ("SegmentationObject", np.zeros((4, 4)), "instances and photo differ in size"),
    ],
)
def test_maps_that_cannot_be_used(root, folder, pixels, reason):
    save(root / f"{folder}/2007_000032.png", pixels, palette=True)
    with pytest.raises(ValueError, match=reason):
        first(voc(root))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<annotation>", "annotation is not XML"),
        ("<!DOCTYPE x>" + xml(), "annotation declares a document type"),
        (xml(shape=(12, 25)), "photo of another size than listed"),
        (xml(thing("unicorn", (4, 1, 1, 4))), "an unknown class"),
        (xml(thing("background", (4, 1, 1, 4))), "an unknown class"),
        (xml("<object><name>dog</name></object>"), "an object without a box"),
        (xml("<object><name>dog</name><bndbox/></object>"), "an annotation without its numbers"),
        (xml(thing("dog", ("x", 1, 1, 4))), "an annotation without its numbers"),
        (xml(thing("dog", ("nan", 1, 1, 4))), OUTSIDE),
        (xml(thing("dog", (40, 26, 1, 4))), OUTSIDE),
        (xml(thing("dog", (4, 5, 1, 4))), OUTSIDE),
    ],
)
def test_annotations_that_cannot_be_used(root, content, reason):
    (root / "Annotations/2007_000032.xml").write_text(content)
    with pytest.raises(ValueError, match=f"^{reason}$"):
        first(voc(root))


def test_another_layout_is_one_line(root):
    with pytest.raises(ValueError, match=r"expected ImageSets/Segmentation/train\.txt"):
        voc(root / "JPEGImages")
    (root / "ImageSets/Segmentation/train.txt").unlink()
    with pytest.raises(ValueError, match="the list of the official train split"):
        voc(root)
