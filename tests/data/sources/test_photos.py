"""The source `photos`: crops, caps, splits and broken files."""

from __future__ import annotations

import pickle
import shutil
import tarfile

import numpy as np
import pytest

from lvmlite.data.sources.base import REJECTS
from lvmlite.data.sources.photos import Photos, PhotosConfig, cut
from lvmlite.images import decode
from lvmlite.sample import split_of


@pytest.fixture
def root(save_photo):
    for i, name in enumerate(["cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png", "e.png"]):
        save_photo(name, i)
    return save_photo("e.png", 4).parent


def photos(root, seed: int = 0, **options) -> Photos:
    return Photos(PhotosConfig(path=str(root), **options), seed)


def test_a_sample_a_photo(root, read):
    samples, rejects = read(photos(root, name="mine"))
    assert rejects == []
    assert [s.key for s in samples] == ["cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png", "e.png"]
    assert [s.category for s in samples] == ["cat", "cat", "dog", "dog", None]
    for s in samples:
        assert (s.group, s.source, len(s.frames)) == (s.key, "mine", 1)
        assert s.split == split_of(s.key)
        assert np.array_equal(s.frames[0]["image"], decode(root / s.key))
        assert np.array_equal(s.frames[-1]["image"], s.frames[0:1][0]["image"])
        with pytest.raises(IndexError):
            s.frames[1]


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "zip"])
def test_samples_repeat_bit_for_bit_and_by_key(root, read, same, kind, tmp_path):
    path = root
    if kind != "folder":
        format = {"tar": "tar", "tar.gz": "gztar", "zip": "zip"}[kind]
        path = shutil.make_archive(str(tmp_path / "packed"), format, root)
    source = photos(path, crops=3)
    first = read(source)[0]
    for sample in first:
        source.sample(sample.key).frames[0]["image"][:] = 0  # nobody's copy but the caller's
    again = read(photos(path, crops=3))[0]
    by_key = [source.sample(s.key) for s in reversed(first)][::-1]
    from_elsewhere = [pickle.loads(pickle.dumps(source)).sample(s.key) for s in first]
    assert len(first) == 15
    for a, b, c, d in zip(first, again, by_key, from_elsewhere, strict=True):
        assert same(a, b)
        assert same(a, c)
        assert same(a, d)


def test_a_folder_and_its_archives_hold_the_same_samples(root, read, same, tmp_path):
    packed = tmp_path / "x.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(root, ".")
    for a, b in zip(read(photos(root, crops=4))[0], read(photos(packed, crops=4))[0], strict=True):
        assert same(a, b)


def test_crops_depend_on_the_seed_and_the_photo_but_not_on_the_others(root, read, save_photo):
    before = {s.key: s.frames[0]["image"] for s in read(photos(root, crops=4))[0]}
    other = {s.key: s.frames[0]["image"] for s in read(photos(root, seed=1, crops=4))[0]}
    save_photo("aaa.png", 9)
    after = {s.key: s.frames[0]["image"] for s in read(photos(root, crops=4))[0]}
    assert len(after) == len(before) + 4
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert all(np.array_equal(before[key], other[key]) for key in before if key.endswith("#c000"))
    assert not any(np.array_equal(before[key], other[key]) for key in before if not key.endswith("#c000"))


def test_crops_lie_inside_and_half_of_them_are_mirrored():
    y, x = np.mgrid[:80, :120]
    shapes, mirrored, corners = [], 0, []
    for crop in range(1, 400):
        piece = cut(np.stack([y, x], -1), 0, f"a#c{crop:03d}", crop)
        rows, cols = piece[:, 0, 0], piece[0, :, 1]
        step = cols[1] - cols[0]
        assert (np.diff(rows) == 1).all()
        assert (np.diff(cols) == step).all()
        assert abs(step) == 1
        mirrored += step == -1
        shapes.append(piece.shape[:2])
        corners.append((rows[0], cols.min()))
    sides = np.sqrt(np.prod(shapes, 1))
    aspects = np.array(shapes)[:, 1] / np.array(shapes)[:, 0]
    assert 26 <= sides.min() < 35
    assert 75 < sides.max() <= 81
    assert 0.7 < aspects.min() < 0.8
    assert 1.25 < aspects.max() < 1.4
    assert 160 < mirrored < 240
    assert len(set(corners)) > 300


def test_a_photo_of_one_pixel_has_crops_of_one_pixel(save_photo, read):
    samples, rejects = read(photos(save_photo("a.png", size=(1, 1)).parent, crops=5))
    assert rejects == []
    assert [s.frames[0]["image"].shape for s in samples] == [(1, 1, 3)] * 5


def test_max_samples_gives_up_crops_first_and_then_photos(save_photo, read):
    for i in range(20):
        root = save_photo(f"{i:02d}.png", i).parent
    assert len(read(photos(root, crops=8))[0]) == 160
    fewer = read(photos(root, crops=8, max_samples=70))[0]
    assert len(fewer) == 60
    assert len({s.group for s in fewer}) == 20
    few = [s.key for s in read(photos(root, crops=8, max_samples=7))[0]]
    assert len(few) == 7
    assert few == sorted(few)
    assert {*few} < {s.key for s in read(photos(root, crops=8, max_samples=9))[0]}
    assert few != [f"{i:02d}.png" for i in range(7)]


def test_parts_cover_each_photo_once(root):
    parts = photos(root, part_size=2).parts()
    assert [(p.name, p.items) for p in parts] == [
        ("00000", ("cat/a.png", "cat/b.png")),
        ("00001", ("dog/c.png", "dog/d.png")),
        ("00002", ("e.png",)),
    ]


def test_official_splits_win_over_the_hash(save_photo, read):
    for i in range(6):
        save_photo(f"train/x/{i}.png", i)
        root = save_photo(f"test/x/{i}.png", 9 + i).parents[2]
    for s in read(photos(root, val=1.0, test=0.0))[0]:
        assert s.split == s.key.split("/")[0]
        assert s.category == "x"


def test_fractions_decide_the_hash_split(root, read):
    assert {s.split for s in read(photos(root, val=1.0, test=0.0))[0]} == {"val"}
    assert {s.split for s in read(photos(root, val=0.0, test=0.0))[0]} == {"train"}


def test_crops_of_a_photo_share_its_group_and_split(root, read):
    samples = read(photos(root, crops=6, val=0.3, test=0.3))[0]
    assert len({(s.group, s.split) for s in samples}) == 5


def test_big_photos_are_reduced_when_read(save_photo, read):
    root = save_photo("a.jpg", size=(300, 400)).parent
    assert read(photos(root, max_side=60))[0][0].frames[0]["image"].shape == (60, 80, 3)


def test_broken_files_are_one_reject_each_and_never_lost(root, read):
    whole = (root / "e.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "text.jpg").write_text("not an image " * 20)
    (root / "empty.gif").touch()
    (root / "notes.txt").write_text("hello")
    source = photos(root, crops=4)
    samples, rejects = read(source)
    assert len(samples) == 20
    assert {r.key: r.reason for r in rejects} == {
        ".": "not listed, by suffix: 1 .txt",
        "cut.png": "truncated file",
        "empty.gif": "empty file",
        "text.jpg": "not an image",
    }
    assert source.parts()[0].name == REJECTS


def test_a_folder_without_one_readable_photo_gives_rejects_only(tmp_path, read):
    (tmp_path / "a.jpg").write_text("a")
    (tmp_path / "b.png").write_text("b")
    samples, rejects = read(photos(tmp_path))
    assert samples == []
    assert [(r.key, r.reason) for r in rejects] == [("a.jpg", "not an image"), ("b.png", "not an image")]


def test_a_photo_that_vanished_after_listing(root, read):
    source = photos(root)
    (root / "e.png").unlink()
    samples, rejects = read(source)
    assert len(samples) == 4
    assert [(r.key, r.reason) for r in rejects] == [("e.png", "cannot read: No such file or directory")]


def test_an_empty_folder_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="no photos found") as info:
        photos(tmp_path)
    assert str(tmp_path) in str(info.value)


@pytest.mark.parametrize("key", ["cat/a.png", "cat/a.png#c002", "cat/a.png#c0", "cat/a.png#c0001", "x.png#c000", ""])
def test_keys_of_no_sample(root, key):
    with pytest.raises(KeyError):
        photos(root, crops=2).sample(key)
