"""The source `videos`: clips, numbering, and files that are cut or hold no frame."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from lvmlite.data.sources.videos import Videos, VideosConfig


def videos(path, **options) -> Videos:
    return Videos(VideosConfig(path=str(path), **options))


def numbers(sample) -> list[int]:
    """The number of each frame in its file, read off its grey level."""
    return [round(float(f["image"][4:20].mean()) / 4) for f in sample.frames]


def test_every_frame_step_th_frame_is_kept(save_video, read):
    path = save_video("a.mp4")
    (sample,), rejects = read(videos(path, name="mine", frame_step=7))
    assert rejects == []
    assert (sample.key, sample.group, sample.source) == ("a.mp4#000000", "a.mp4", "mine")
    assert numbers(sample) == list(range(0, 60, 7))
    assert sample.frames[0]["image"].shape == (48, 64, 3)
    assert sample.frames[0]["image"].dtype == np.uint8


def test_a_long_file_becomes_clips_that_repeat_and_overlap_nothing(save_video, read, same):
    root = save_video("run/a.mp4").parents[1]
    save_video("walk/b.mkv", 30)
    source = videos(root, frame_step=3, clip_frames=8)
    samples, rejects = read(source)
    assert rejects == []
    assert [s.key for s in samples] == [
        *("run/a.mp4#000000", "run/a.mp4#000024", "run/a.mp4#000048"),
        *("walk/b.mkv#000000", "walk/b.mkv#000024"),
    ]
    assert [n for s in samples[:3] for n in numbers(s)] == list(range(0, 60, 3))
    assert [s.category for s in samples] == ["run"] * 3 + ["walk"] * 2
    assert len({(s.group, s.split) for s in samples}) == 2
    again = read(videos(root, frame_step=3, clip_frames=8))[0]
    for sample, repeated in zip(samples, again, strict=True):
        assert same(sample, repeated)
        assert same(sample, source.sample(sample.key))


def test_max_clips_takes_the_first_of_each_file(save_video, read):
    root = save_video("a.mp4").parent
    save_video("b.mp4")
    source = videos(root, frame_step=3, clip_frames=4, max_clips=2)
    samples = read(source)[0]
    assert [s.key for s in samples] == ["a.mp4#000000", "a.mp4#000012", "b.mp4#000000", "b.mp4#000012"]
    with pytest.raises(KeyError):
        source.sample("a.mp4#000024")


def test_a_last_clip_that_is_too_short_is_counted(save_video, read):
    source = videos(save_video("a.mp4", 41), frame_step=5, clip_frames=4, min_frames=2)
    samples, rejects = read(source)
    assert [len(s.frames) for s in samples] == [4, 4]
    assert [(r.key, r.reason) for r in rejects] == [("a.mp4#000040", "too short: fewer than 2 kept frames")]
    with pytest.raises(KeyError):
        source.sample("a.mp4#000040")


def test_frames_are_reduced_when_read(save_video, read):
    (sample,), _ = read(videos(save_video("a.mp4"), max_side=24))
    assert sample.frames[0]["image"].shape == (24, 32, 3)


def test_a_video_cut_in_half_gives_its_clips_and_a_reject(save_video, read, same):
    path = save_video("a.mp4")
    whole = read(videos(path, frame_step=2, clip_frames=5))[0]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    source = videos(path, frame_step=2, clip_frames=5)
    samples, rejects = read(source)
    assert 1 <= len(samples) < len(whole)
    for got, expected in zip(samples[:-1], whole, strict=False):
        assert same(got, expected)
    assert rejects[-1].key == "a.mp4"
    assert rejects[-1].reason.startswith("truncated: ")
    for sample in samples:
        assert same(sample, source.sample(sample.key))


def test_videos_that_cannot_be_read_are_rejects(save_video, read):
    path = save_video("good.mp4")
    data = path.read_bytes()
    (path.parent / "frameless.mp4").write_bytes(data[: data.index(b"mdat") + 4])
    (path.parent / "text.mov").write_text("not a video " * 30)
    (path.parent / "empty.avi").touch()
    (path.parent / "notes.txt").touch()
    source = videos(path.parent)
    samples, rejects = read(source)
    assert [s.group for s in samples] == ["good.mp4"]
    assert {r.key: r.reason for r in rejects} == {
        ".": "not listed, by suffix: 1 .txt",
        "empty.avi": "empty file",
        "frameless.mp4": "no frames",
        "text.mov": "not a video, or cut before its index",
    }


def test_parts_cover_each_file_once(save_video):
    for name in "abc":
        root = save_video(f"{name}.mkv", 4).parent
    parts = videos(root, part_size=2).parts()
    assert [(p.name, p.items) for p in parts] == [("00000", ("a.mkv", "b.mkv")), ("00001", ("c.mkv",))]


def test_nothing_to_read_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="no videos found"):
        videos(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        videos(tmp_path / "missing")


@pytest.mark.parametrize("key", ["a.mp4", "a.mp4#000001", "a.mp4#999999999", "b.mp4#000000", "a.mp4#0"])
def test_keys_of_no_clip(save_video, key):
    with pytest.raises(KeyError):
        videos(save_video("a.mp4"), frame_step=3, clip_frames=4).sample(key)


def test_official_splits(save_video, read):
    root = save_video("train/a.mkv", 12).parents[1]
    save_video("test/b.mkv", 12)
    assert [s.split for s in read(videos(root, frame_step=2))[0]] == ["test", "train"]


def test_a_clip_of_big_frames_is_shorter(save_video, read, same, monkeypatch):
    monkeypatch.setattr("lvmlite.data.sources.videos.MAX_CLIP_BYTES", 7 * 48 * 64 * 3 + 1)
    source = videos(save_video("a.mp4", 20), frame_step=1, max_clips=2)
    samples, _ = read(source)
    assert [(s.key, numbers(s)) for s in samples] == [
        ("a.mp4#000000", list(range(7))),
        ("a.mp4#000007", list(range(7, 14))),
    ]
    assert all(same(s, source.sample(s.key)) for s in samples)
    with pytest.raises(KeyError):
        source.sample("a.mp4#000014")


def test_no_clip_is_held_while_the_next_is_read(save_video):
    source = videos(save_video("a.mp4", 30), frame_step=1, clip_frames=10)
    items = source.samples(source.parts()[0])
    for _ in range(3):
        picture = weakref.ref(next(items).frames[0]["image"])
        assert picture() is None


def test_max_samples_takes_files_by_name(save_video, read):
    for i in range(6):
        root = save_video(f"{i}.mkv", 4).parent
    few = {s.group for s in read(videos(root, max_samples=2, frame_step=1))[0]}
    more = {s.group for s in read(videos(root, max_samples=4, frame_step=1))[0]}
    assert (len(few), len(more)) == (2, 4)
    assert few < more


def test_another_split_makes_another_part(save_video):
    root = save_video("train/a.mkv", 4).parents[1]
    alone = videos(root, val=0, test=0).parts()[0].stamp
    assert videos(root, val=1, test=0).parts()[0].stamp != alone == videos(root, val=0, test=0).parts()[0].stamp


def test_files_that_are_odd_but_not_wrong(save_video, read):
    import av

    path = save_video("still.mp4", 1)
    with av.open(str(path.with_name("sound.mp4")), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        wave.sample_rate, wave.pts = 16000, 0
        container.mux(stream.encode(wave))
        container.mux(stream.encode(None))
    samples, rejects = read(videos(path.parent))
    assert samples == []
    assert {r.key: r.reason for r in rejects} == {
        "sound.mp4": "no video stream",
        "still.mp4#000000": "too short: fewer than 2 kept frames",
    }
    assert len(read(videos(path, min_frames=1))[0][0].frames) == 1
