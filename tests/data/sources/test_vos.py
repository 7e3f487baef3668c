"""The source `vos`: DAVIS 2016 and 2017 and YouTube-VOS as published, and videos whose masks are not all there."""

from __future__ import annotations

import numpy as np
import pytest

from lvmlite.data.sources.vos import Vos, VosConfig
from lvmlite.images import Unreadable
from lvmlite.sample import split_of

from .layouts.pictures import save
from .layouts.vos import SIZE, mask, write_davis, write_youtube


@pytest.fixture
def davis(tmp_path):
    return write_davis(tmp_path / "DAVIS")


@pytest.fixture
def youtube(tmp_path):
    return write_youtube(tmp_path / "YouTubeVOS")


def vos(path, **options) -> Vos:
    return Vos(VosConfig(str(path), **options))


def test_davis_2017(davis, read, same):
    source = vos(davis.parent, val=0)
    samples, rejects = read(source)
    assert [(s.key, s.group, s.split, len(s.frames)) for s in samples] == [
        ("bear#000000", "bear", "train", 7),
        ("camel#000000", "camel", "test", 3),
    ]
    assert {r.key: r.reason for r in rejects} == {
        "ghost": "listed, but not there",
        "DAVIS/JPEGImages/480p/": "videos in no list: 1",
    }
    assert (source.annotations, source.frame_step) == (("instances",), 1)
    frames = samples[0].frames
    for t in (0, 6):
        assert frames[t]["image"].shape == (*SIZE, 3)
        assert abs(int(frames[t]["image"][0, 0, 0]) - 5 * t) < 3
        np.testing.assert_array_equal(frames[t]["instances"], np.where(mask(t) == 255, 0, mask(t)))
        assert frames[t]["instances"].dtype == np.uint16
    for sample in samples:
        assert same(sample, source.sample(sample.key))


def test_val_may_stay_val_and_train_gives_val(davis, read):
    assert {s.group: s.split for s in read(vos(davis, val_as="val"))[0]} == {"bear": "train", "camel": "val"}
    splits = {s.group: s.split for s in read(vos(davis, val=1.0))[0]}
    assert splits == {"bear": split_of("bear", 1.0, 0), "camel": "test"}
    assert splits["bear"] == "val"


def test_clips_of_every_second_frame(davis, read):
    source = vos(davis, frame_step=2, clip_frames=3)
    samples, _ = read(source)
    assert [(s.key, len(s.frames)) for s in samples] == [("bear#000000", 3), ("bear#000006", 1), ("camel#000000", 2)]
    assert source.frame_step == 2
    np.testing.assert_array_equal(samples[0].frames[2]["instances"][2:5], mask(4)[2:5])
    np.testing.assert_array_equal(samples[1].frames[0]["instances"][2:5], mask(6)[2:5])


def test_davis_2016_own_release_stores_one_object_as_255(davis, read):
    (davis / "ImageSets/2017/train.txt").unlink()
    lists = davis / "ImageSets/480p"
    lists.mkdir()
    pairs = [f"/JPEGImages/480p/bear/{t:05d}.jpg /Annotations/480p/bear/{t:05d}.png" for t in range(7)]
    (lists / "train.txt").write_text("\n".join(pairs) + "\n")
    for t in range(7):
        save(davis / f"Annotations/480p/bear/{t:05d}.png", (mask(t) == 1) * 255)
    (sample,), _ = read(vos(davis, year="2016", val=0))
    assert (sample.group, sample.split) == ("bear", "train")
    np.testing.assert_array_equal(sample.frames[3]["instances"], mask(3) == 1)


def test_davis_2016_lists_with_the_masks_of_2017_have_one_object(davis, read):
    (davis / "ImageSets/2016").mkdir()
    (davis / "ImageSets/2016/val.txt").write_text("camel\n")
    (sample,), _ = read(vos(davis, year="2016"))
    assert np.unique(sample.frames[0]["instances"]).tolist() == [0, 1]
    assert sample.split == "test"


def test_youtube_frames_without_masks_are_left_out(youtube, read):
    source = vos(youtube, val=0)
    samples, rejects = read(source)
    assert [(s.key, s.split, len(s.frames)) for s in samples] == [
        ("train/train0fe#000000", "train", 3),
        ("valid/valid0fe#000000", "test", 1),
    ]
    assert source.frame_step == 5  # numbers go up by five
    assert ("valid/valid0fe", "some frames have no mask: left out") in [(r.key, r.reason) for r in rejects]
    np.testing.assert_array_equal(samples[0].frames[2]["instances"][2:5], mask(2)[2:5])


def test_youtube_frames_without_masks_are_kept_as_photos(youtube, read):
    samples, rejects = read(vos(youtube, unmasked="keep"))
    assert [[sorted(frame) for frame in s.frames] for s in samples] == [
        [["image", "instances"]] * 3,
        [["image"]] * 3,
    ]
    assert [r.key for r in rejects] == ["."]


def test_a_video_without_any_mask(youtube, read):
    (youtube / "valid/Annotations/valid0fe/00000.png").unlink()
    samples, rejects = read(vos(youtube))
    assert [s.key for s in samples] == ["train/train0fe#000000"]
    assert ("valid/valid0fe", "no masks") in [(r.key, r.reason) for r in rejects]


def test_masks_that_cannot_be_used(davis):
    save(davis / "Annotations/480p/bear/00002.png", np.zeros((12, 19)), palette=True)
    (davis / "Annotations/480p/camel/00001.png").write_bytes(b"")
    frames = {key: vos(davis).sample(key).frames for key in ("bear#000000", "camel#000000")}
    assert frames["bear#000000"][1]["instances"].max() == 2
    with pytest.raises(Unreadable, match="mask and photo differ in size"):
        frames["bear#000000"][2]
    with pytest.raises(Unreadable, match="empty file"):
        frames["camel#000000"][1]


def test_a_mistake_is_one_clear_line(davis, tmp_path):
    with pytest.raises(ValueError, match="not laid out as the data set is published; expected JPEGImages/480p"):
        vos(davis / "ImageSets")
    with pytest.raises(ValueError, match=r"ImageSets/2016/train.txt nor .*ImageSets/2016/val.txt, which say what"):
        vos(davis, year="2016")
    (davis / "ImageSets/2017/val.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ValueError, match=r"val.txt: cannot be read as a list of videos"):
        vos(davis)
