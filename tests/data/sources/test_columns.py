"""Packed samples: which files a path names, their official splits, and how annotation pictures are read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lvmlite.data.sources.columns import ColumnsConfig, PackedFrame, expand, list_files, official_splits, shares
from lvmlite.images import Unreadable


def png(x: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(x).save(out, "PNG")
    return out.getvalue()


def frame(columns, **options):
    return PackedFrame(ColumnsConfig(path="", **options), columns)[0]


def test_patterns_expand_in_order_and_keep_their_zeros():
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{train,val}/{0..1}.tar") == ["train/0.tar", "train/1.tar", "val/0.tar", "val/1.tar"]
    assert expand("a.tar") == ["a.tar"]
    assert expand("{3..1}.tar") == []
    for pattern in ("{0..99999999999999}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(ValueError, match="more than 1000000 files"):
            expand(pattern)


def test_a_folder_a_file_and_a_pattern(tmp_path):
    for name in ("b/1.tar", "a/0.tar", "a/1.tar", "a/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    files, rejects = list_files(str(tmp_path), [".tar"], "shards")
    assert files == {name: tmp_path / name for name in ("a/0.tar", "a/1.tar", "b/1.tar")}
    assert [r.reason for r in rejects] == ["not listed, by suffix: 1 .txt"]
    assert list_files(str(tmp_path / "a/0.tar"), [".tar"], "shards") == ({"0.tar": tmp_path / "a/0.tar"}, [])
    files, rejects = list_files(f"{tmp_path}/{{a,b}}/{{0..1}}.tar", [".tar"], "shards")
    assert files == {name: tmp_path / name for name in ("a/0.tar", "a/1.tar", "b/1.tar")}
    assert [(r.key, r.reason) for r in rejects] == [("b/0.tar", "no such file")]
    for path, message in (("gone", "no such file or folder"), ("{5..6}.tar", "no shards found"), ("b/x", "no such")):
        with pytest.raises(ValueError, match=message) as info:
            list_files(str(tmp_path / path), [".tar"], "shards")
        assert "\n" not in str(info.value)


def test_folders_that_link_to_themselves_are_listed_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.tar").touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    files, rejects = list_files(str(tmp_path), [".tar"], "shards")
    assert list(files) == ["a/0.tar"]
    assert [r.reason for r in rejects] == ["a link to a folder already listed"]


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
