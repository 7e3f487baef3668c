"""Video reading: order, numbering, rotation, and files that are cut, empty or not videos."""

from __future__ import annotations

import numpy as np
import pytest

from lvmlite.images import Unreadable, VideoReader

FAST = {"options": {"movflags": "faststart"}}


def greys(frames):
    """The grey level in the top right quarter tells a frame's number."""
    return [round(float(f[4:20, 40:].mean()) / 4) for f in frames]


def halve(path):
    data = path.read_bytes()
    out = path.with_name(f"half-{path.name}")
    out.write_bytes(data[: len(data) // 2])
    return out


def test_frames_come_in_presentation_order(make_video):
    frames = list(VideoReader(make_video("a.mp4")).frames())
    assert len(frames) == 60
    assert {(f.shape, f.dtype.name) for f in frames} == {((48, 64, 3), "uint8")}
    assert greys(frames) == list(range(60))


def test_every_start_and_limit_number_frames_by_presentation(make_video):
    reader = VideoReader(make_video("a.mkv"))
    assert greys(reader.frames(every=7)) == [0, 7, 14, 21, 28, 35, 42, 49, 56]
    assert greys(reader.frames(every=7, start=14, limit=3)) == [14, 21, 28]
    assert list(reader.frames(start=1000)) == []
    assert reader.truncated is None


def test_a_part_of_the_frames_is_bit_identical_to_the_whole(make_video):
    reader = VideoReader(make_video("a.mp4"))
    whole = list(reader.frames())
    for got, expected in zip(reader.frames(every=11, start=5), whole[5::11], strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_frames_are_turned_upright(make_video, degrees):
    plain = next(VideoReader(make_video("plain.mp4")).frames())
    turned = next(VideoReader(make_video("turned.mp4", rotation=degrees)).frames())
    # The display matrix holds the counter-clockwise turn that a player must make.
    assert np.array_equal(turned, np.rot90(plain, degrees // 90))


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", FAST), ("a.mkv", {}), ("a.avi", {}), ("a.mp4", {"audio": True, **FAST}), ("a.mkv", {"audio": True})],
)
def test_a_video_cut_in_half_gives_its_prefix_and_says_so(make_video, name, options):
    path = make_video(name, **options)
    whole = list(VideoReader(path).frames())
    reader = VideoReader(halve(path))
    prefix = list(reader.frames())
    assert 5 < len(prefix) < 50
    assert reader.truncated
    # The very last frame may be the decoder's guess at half a frame; those before must be the true ones.
    for got, expected in zip(prefix[:-1], whole, strict=False):
        assert np.array_equal(got, expected)
    again = list(reader.frames())
    assert all(np.array_equal(a, b) for a, b in zip(prefix, again, strict=True))


def test_a_whole_video_is_not_called_truncated(make_video):
    for name in ("a.mp4", "a.mkv", "a.ts", "a.avi", "a.mov"):
        for audio in (False, True):
            reader = VideoReader(make_video(name, audio=audio and name != "a.avi"))
            assert len(list(reader.frames())) == 60, name
            assert reader.truncated is None, name


def test_a_transport_stream_cut_in_half_gives_its_prefix(make_video):
    prefix = list(VideoReader(halve(make_video("a.ts"))).frames())
    assert 5 < len(prefix) < 50  # the format holds no length: nobody can know what is missing


def reason(path):
    with pytest.raises(Unreadable) as info:
        list(VideoReader(path).frames())
    return info.value.reason


def test_unreadable_files_say_why(make_video, make_sound, tmp_path, capfd):
    cut = halve(make_video("slow.mp4"))  # its index is at the end
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 50)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert reason(cut) == "not a video, or cut before its index"
    assert reason(text) == "not a video, or cut before its index"
    assert reason(empty) == "empty file"
    assert reason(make_sound("sound.mp4")) == "no video stream"
    assert reason(tmp_path / "missing.mp4") == "cannot read: No such file or directory"
    assert reason(tmp_path) == "cannot read: Is a directory"
    assert capfd.readouterr().err == ""


def test_a_video_without_frames(make_video):
    """A header and an index of 60 frames, but not one byte of them."""
    path = make_video("a.mp4", **FAST)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    assert reason(path) == "no frames"


def test_damaged_videos_raise_nothing_but_unreadable(make_video, capfd):
    rng = np.random.default_rng(0)
    ends = {"ok": 0, "truncated": 0, "unreadable": 0}
    for name, options in (("a.mp4", FAST), ("b.mkv", {}), ("c.ts", {}), ("d.avi", {})):
        path = make_video(name, n=20, **options)
        data = path.read_bytes()
        for _ in range(40):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), rng.integers(1, 20)):
                broken[at] = rng.integers(256)
            path.write_bytes(broken[: rng.integers(len(data) // 4, len(data))])
            try:
                reader = VideoReader(path)
                assert all(frame.ndim == 3 for frame in reader.frames())
                ends["truncated" if reader.truncated else "ok"] += 1
            except Unreadable:
                ends["unreadable"] += 1
    assert min(ends.values()) > 0, ends
    assert capfd.readouterr().err == ""


def test_names_with_colons_and_percent_signs_are_only_names(make_video, tmp_path):
    path = make_video("a.mp4").rename(tmp_path / "http:%03d.mp4")
    assert len(list(VideoReader(path).frames(limit=2))) == 2
