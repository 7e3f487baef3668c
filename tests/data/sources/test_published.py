"""What sources of published data sets share: roots, splits, and files of a wrong schema."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lvmlite.data.sources.files import find_files
from lvmlite.data.sources.published import (
    OUTSIDE,
    PublishedConfig,
    clip_box,
    find_root,
    numbers,
    read_json,
    read_lines,
    read_xml,
    roots,
    rows,
)
from lvmlite.images import Unreadable
from lvmlite.sample import split_of


def files_of(tmp_path, **contents: bytes):
    for name, content in contents.items():
        (tmp_path / name.replace("_", ".")).write_bytes(content)
    return find_files(str(tmp_path), (".json", ".xml", ".txt"), "files")


def test_a_root_begins_at_a_folder_of_that_very_name():
    assert roots(["images/train/a.jpg"], "images/train/") == [""]
    assert roots(["a/b/images/train/a.jpg", "c/images/train/b.jpg"], "images/train/") == ["c/", "a/b/"]
    assert roots(["myimages/train/a.jpg", "images/training/a.jpg"], "images/train/") == []


def test_a_folder_laid_out_otherwise_is_one_line_that_says_how_it_should_be(tmp_path):
    files = files_of(tmp_path, a_txt=b"x")
    with pytest.raises(ValueError, match=r"expected images/train/\*\.jpg") as info:
        find_root(files, ["images/train/"], "images/train/*.jpg")
    assert "\n" not in str(info.value)


def test_official_splits_become_ours_by_one_rule():
    groups = [str(i) for i in range(400)]
    default = PublishedConfig("x", val=0.1)
    assert {default.split("val", g) for g in groups} == {"test"}
    assert {default.split("test", g) for g in groups} == {"test"}
    assert [default.split("train", g) for g in groups] == [split_of(g, 0.1, 0) for g in groups]
    assert {default.split("train", g) for g in groups} == {"train", "val"}
    kept = PublishedConfig("x", val_as="val", val=0.1)
    assert [kept.split(s, "g") for s in ("train", "val", "test")] == ["train", "val", "test"]
    assert {kept.split("train", g) for g in groups} == {"train"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1, 2]", "the file: expected an object, found a list"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 200_000, "not JSON"),
    ],
)
def test_what_is_no_json_object_is_one_line(tmp_path, content, reason):
    with pytest.raises(ValueError, match=reason) as info:
        read_json(files_of(tmp_path, a_json=content), "a.json")
    assert "a.json: " in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "f: images: expected a list, found nothing"),
        ({"images": {}}, "f: images: expected a list, found an object"),
        ({"images": [{"id": 1}, 3]}, "f: images[1]: expected an object, found a whole number"),
        ({"images": [{"id": "1"}]}, "f: images[0].id: expected a whole number, found a text"),
        ({"images": [{"id": True}]}, "f: images[0].id: expected a whole number, found true or false"),
        ({"images": [{"id": 1.0}]}, "f: images[0].id: expected a whole number, found a number"),
        ({"images": [{}]}, "f: images[0].id: expected a whole number, found nothing"),
    ],
)
def test_a_wrong_schema_names_the_place(document, message):
    with pytest.raises(ValueError, match=r"^f: images") as info:
        list(rows(document, "images", {"id": int}, "f"))
    assert str(info.value) == message


def test_half_a_surrogate_pair_is_no_text():
    document = json.loads(r'{"images": [{"name": "\ud83d\ude00"}, {"name": "\ud800"}]}')
    with pytest.raises(
        ValueError, match=r"^f: images\[1\]\.name: expected a text, found one that is not valid Unicode$"
    ):
        list(rows(document, "images", {"name": str}, "f"))


def test_numbers_are_a_flat_list_of_finite_numbers():
    assert np.array_equal(numbers(json.loads("[1, 2.5, -3]")), [1.0, 2.5, -3.0])
    for text in ("3", "null", '["1"]', "[[1]]", "[true]", "[NaN]", "[Infinity]", "[1e999]", "[1" + "0" * 400 + "]"):
        assert numbers(json.loads(text)) is None, text


def test_lines_of_a_text(tmp_path):
    files = files_of(tmp_path, a_txt=b" one 1 \r\n\n two\n", b_txt=b"\xff\xfe")
    assert read_lines(files, "a.txt") == ["one 1", "two"]
    assert read_lines(files, "missing.txt") == []
    with pytest.raises(ValueError, match=r"b\.txt: not a text"):
        read_lines(files, "b.txt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<a><b></a>", "annotation is not XML"),
        (b"", "annotation is not XML"),
        (b"\xff\xfe<\x00a\x00", "annotation is not XML"),
        (b'<!DOCTYPE a [<!ENTITY x "xxxx"><!ENTITY y "&x;&x;">]><a>&y;</a>', "annotation declares a document type"),
    ],
)
def test_bad_xml_is_unreadable(tmp_path, content, reason):
    with pytest.raises(Unreadable) as info:
        read_xml(files_of(tmp_path, a_xml=content), "a.xml")
    assert info.value.reason == reason


def test_xml_with_a_declaration_is_read(tmp_path):
    root = read_xml(files_of(tmp_path, a_xml=b'<?xml version="1.0" encoding="utf-8"?><a><b>\xc3\xa9</b></a>'), "a.xml")
    assert root.findtext("b") == "é"


def test_boxes_are_cut_off_at_the_border_and_refused_outside():
    assert clip_box((1, 2, 3, 4), (10, 20)).tolist() == [1, 2, 3, 4]
    assert clip_box((-5, -5, 50, 50), (10, 20)).tolist() == [0, 0, 20, 10]
    outside = [(20, 0, 25, 5), (0, -5, 5, 0), (3, 3, 3, 5), (5, 3, 4, 5), (0, 0, float("nan"), 4)]
    for corners in outside:
        with pytest.raises(Unreadable) as info:
            clip_box(corners, (10, 20))
        assert info.value.reason == OUTSIDE
