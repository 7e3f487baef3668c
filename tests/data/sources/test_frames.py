"""The source `frames`: order of the numbers, clips, holes, and folders that are no video."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from lvmlite.data.sources.frames import Frames, FramesConfig, number_of
from lvmlite.images import Unreadable


@pytest.fixture
def save(tmp_path):
    """save("a", range(1, 13)): picture i of folder a is grey i."""

    def save(folder, numbers, name="{:05d}.png", size=(24, 32)):
        path = tmp_path / "data" / folder
        path.mkdir(parents=True, exist_ok=True)
        for i in numbers:
            Image.fromarray(np.full((*size, 3), i, np.uint8)).save(path / name.format(i))
        return tmp_path / "data"

    return save


def frames(root, **options):
    return Frames(FramesConfig(path=str(root), **{"frame_step": 1, **options}))


def greys(sample):
    return [int(frame["image"][0, 0, 0]) for frame in sample.frames]


def test_numbers_are_ordered_as_numbers(save, read):
    root = save("a", range(1, 13), "img_{}.png")
    (sample,), rejects = read(frames(root, name="mine"))
    assert greys(sample) == list(range(1, 13))
    assert (sample.key, sample.group, sample.source, rejects) == ("a#000001", "a", "mine", [])
    assert sample.frames[0]["image"].shape == (24, 32, 3)


def test_clips_and_steps(save, read, same):
    root = save("a", range(20))
    source = frames(root, frame_step=3, clip_frames=3, min_frames=2)
    samples, rejects = read(source)
    assert source.frame_step == 3
    assert [(s.key, greys(s)) for s in samples] == [("a#000000", [0, 3, 6]), ("a#000009", [9, 12, 15])]
    assert [(r.key, r.reason) for r in rejects] == [("a#000018", "too short: fewer than 2 kept frames")]
    assert all(same(s, source.sample(s.key)) for s in samples)
    assert [s.key for s in read(frames(root, clip_frames=3, max_clips=2))[0]] == ["a#000000", "a#000003"]
    with pytest.raises(KeyError):
        source.sample("a#000001")


def test_clips_are_cut_where_numbers_are_missing(save, read):
    root = save("a", [1, 2, 3, 5, 6, 9])
    samples, rejects = read(frames(root))
    assert [greys(s) for s in samples] == [[1, 2, 3], [5, 6]]
    assert {(r.key, r.reason) for r in rejects} == {
        ("a", "numbers missing: clips are cut there"),
        ("a#000009", "too short: fewer than 2 kept frames"),
    }


def test_numbers_may_go_up_by_any_step(save, read):
    (sample,), rejects = read(frames(save("a", range(30, 200, 30))))
    assert greys(sample) == list(range(30, 200, 30))
    assert rejects == []


def test_splits_and_classes_are_those_of_the_folders_around(save, read):
    for folder in ("train/run/1", "train/walk/2", "val/run/3"):
        root = save(folder, range(3))
    samples = read(frames(root))[0]
    assert [(s.group, s.split, s.category) for s in samples] == [
        ("train/run/1", "train", "run"),
        ("train/walk/2", "train", "walk"),
        ("val/run/3", "val", "run"),
    ]


def test_jester_has_no_classes(save, read):
    for folder in ("1", "2"):
        root = save(folder, range(1, 4))
    assert [(s.group, s.category) for s in read(frames(root))[0]] == [("1", None), ("2", None)]


def test_pictures_beside_each_other_are_one_video(save, read):
    (sample,), _ = read(frames(save(".", range(4))))
    assert (sample.key, greys(sample)) == (".#000000", [0, 1, 2, 3])


def test_a_tar_and_a_folder_are_read_alike(save, read, same, tmp_path):
    root = save("a/b", range(5))
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        for path in sorted(root.rglob("*.png")):
            info = tarfile.TarInfo(path.relative_to(root).as_posix())
            info.size = path.stat().st_size
            tar.addfile(info, io.BytesIO(path.read_bytes()))
    source = pickle.loads(pickle.dumps(frames(tmp_path / "data.tar")))
    for a, b in zip(read(frames(root))[0], read(source)[0], strict=True):
        assert same(a, b)


def test_a_folder_of_two_series_or_without_numbers_is_a_reject(save, read):
    root = save("two", range(3), "rgb_{:03d}.png")
    save("two", range(3), "flow_{:03d}.png")
    save("twice", range(3))
    save("twice", [1], "{}.png")
    save("ok", range(3))
    save("ok", [7], "cover.png")
    samples, rejects = read(frames(root))
    assert [s.group for s in samples] == ["ok"]
    assert {r.key: r.reason for r in rejects} == {
        "two": "several series of names: a folder is one video",
        "twice": "two pictures of one number in a folder",
        "ok/cover.png": "no number in the name",
    }


def test_sizes_that_differ_inside_a_folder(save, read):
    root = save("a", range(4))
    save("a", [4, 5], size=(24, 30))
    for source in (frames(root), frames(root, clip_frames=2)):
        with pytest.raises(Unreadable, match="pictures of a folder differ in size"):
            list(read(source)[0][-1].frames)
    assert greys(read(frames(root, clip_frames=2))[0][0]) == [0, 1]


def test_an_unreadable_picture_spoils_its_clip_alone(save, read):
    root = save("a", range(6))
    (root / "a/00004.png").write_bytes((root / "a/00004.png").read_bytes()[:40])
    good, bad = read(frames(root, clip_frames=3))[0]
    assert greys(good) == [0, 1, 2]
    with pytest.raises(Unreadable):
        list(bad.frames)


def test_frames_are_reduced_when_read(save, read):
    (sample,), _ = read(frames(save("a", range(3)), max_side=12))
    assert sample.frames[2]["image"].shape == (12, 16, 3)


def test_max_samples(save, read):
    root = save("a", range(12))
    assert len(read(frames(root, clip_frames=2, max_samples=4))[0]) == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/img_0012.jpg", ("img_*", 12)),
        ("000003.png", ("*", 3)),
        ("frame-000003.color.jpg", ("frame-*.color", 3)),
        ("0016E5_00390.png", ("0016E5_*", 390)),
        ("9/x.png", None),
    ],
)
def test_number_of(name, expected):
    assert number_of(name) == expected


def test_nothing_to_read_is_one_clear_line(save, tmp_path):
    with pytest.raises(ValueError, match="no numbered pictures found"):
        frames(save("a", [0], "cover.png"))
    with pytest.raises(ValueError, match="no clip found; for one, b#000001: too short"):
        frames(save("b", [1]))
    with pytest.raises(ValueError, match="no such file or folder"):
        frames(tmp_path / "missing")
