"""Packed samples: the official splits of their files, and how annotation pictures are read."""

from __future__ import annotations

import numpy as np
import pytest

from lvmlite.data.sources.columns import ColumnsConfig, PackedFrame, official_splits, shares
from lvmlite.images import Unreadable

from .layouts.pictures import as_bytes as png


def frame(columns, **options):
    return PackedFrame(ColumnsConfig(path="", **options), columns)[0]


def test_official_splits_by_folder_or_by_word():
    assert official_splits(["train/0.tar", "valid/0.tar"]) == {"train/0.tar": "train", "valid/0.tar": "val"}
    names = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/validation-00000.parquet"]
    assert list(official_splits(names).values()) == ["train", "train", "val"]
    assert set(official_splits(names[:2]).values()) == {None}
    assert set(official_splits([*names, "data/other.parquet"]).values()) == {None}
    assert set(official_splits(["0.tar", "1.tar"]).values()) == {None}


def test_shares_are_in_proportion_and_never_more():
    assert shares([10, 10, 20], 8) == [2, 2, 4]
    assert shares([10, 10], None) == shares([10, 10], 99) == [10, 10]
    assert sum(shares([7, 1, 3, 5], 5)) == 5
    assert shares([5] * 10, 3).count(1) == 3


def test_annotations_are_read_as_what_they_are():
    photo = png(np.zeros((2, 3, 3), np.uint8))
    ids, metres = np.array([[0, 1, 255], [3, 4, 5]], np.uint8), np.array([[0, 1500, 65535]] * 2, np.uint16)
    out = frame({"image": photo, "classes": png(ids), "depth": png(metres)}, first=1, ignore=[255])
    assert out["classes"].tolist() == [[1, 2, 0], [4, 5, 6]]
    assert out["depth"].tolist() == [[0, 1.5, 0]] * 2
    out = frame({"image": photo, "disparity": png(metres), "boundaries": png(ids)}, disparity_scale=256)
    assert out["disparity"][0].tolist() == [0, np.float32(1500 / 256), np.float32(65535 / 256)]
    assert out["boundaries"][0].tolist() == [0, np.float32(1 / 255), 1]
    towards = np.full((2, 3, 3), (128, 128, 255), np.uint8)
    out = frame({"image": photo, "normals": png(towards), "target": png(towards)})
    assert np.allclose(out["normals"], [0, 0, 1], atol=0.01)
    assert np.array_equal(out["target"], towards)


def test_annotations_of_another_size_or_with_unknown_ids_are_unreadable():
    photo = png(np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(Unreadable, match="depth and photo differ in size"):
        frame({"image": photo, "depth": png(np.zeros((6, 4), np.uint16))})
    with pytest.raises(Unreadable, match="mask with unknown ids"):
        frame({"image": photo, "classes": png(np.full((4, 6), 9, np.uint8))}, n_classes=8)


def test_photos_alone_are_reduced_and_annotated_ones_are_not():
    photo = png(np.zeros((40, 60, 3), np.uint8))
    assert frame({"image": photo}, max_side=20)["image"].shape == (20, 30, 3)
    ids = png(np.zeros((40, 60), np.uint8))
    assert frame({"image": photo, "classes": ids}, max_side=20)["image"].shape == (40, 60, 3)


def test_wrong_columns_are_one_clear_line():
    with pytest.raises(ValueError, match=r"^columns.mask: 'class' is none of classes, instances, "):
        ColumnsConfig(path="", columns={"mask": "class"}).annotations()
    with pytest.raises(ValueError, match="two columns give the same annotation"):
        ColumnsConfig(path="", columns={"a": "depth", "b": "depth"}).annotations()
