"""Video reading: order, numbering, rotation, and files that are cut, empty or not videos."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lvmlite.images import Unreadable, VideoReader
from lvmlite.images.video import _Clock, _mean_rate

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


# --- by time


def stamped(path, stamps, tick=1000, codec="libx264", rate=30, **options):
    """A video whose frame i is grey 4 i and has the timestamp stamps[i], in 1 / tick s."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={k: str(v) for k, v in options.items()})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 10
        stream.bit_rate = 400_000
        stream.codec_context.time_base = Fraction(1, tick)
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, tick)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def on_screen(stamps, every=1, start=0):
    """The frames that the definition names, found in another way: number of the last stamp at or before each time."""
    stamps = np.array(stamps, float)
    slot = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    times = np.arange(start, len(stamps), every) + 0.5
    return (np.searchsorted(stamps - stamps[0], times * slot, side="right") - 1).tolist()


SLOW_THEN_FAST = np.cumsum([0, *[80] * 20, *[20] * 40]).tolist()
PAUSE = np.cumsum([0, *[40] * 10, 1000, *[40] * 20]).tolist()
BURST = np.cumsum([0, *[40] * 10, *[4] * 20, *[40] * 10]).tolist()
JITTER = (np.arange(60) * 33 + np.random.default_rng(0).integers(-12, 13, 60) + 20).tolist()


@pytest.mark.parametrize("stamps", [SLOW_THEN_FAST, PAUSE, BURST, JITTER], ids=["rates", "pause", "burst", "jitter"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_variable_rate_is_sampled_evenly_in_time(tmp_path, name, stamps):
    reader = VideoReader(stamped(tmp_path / name, stamps, bf=2))
    for every, start in ((1, 0), (3, 0), (4, 8)):
        assert greys(reader.frames(every, start=start)) == on_screen(stamps, every, start)
    assert reader.truncated is None
    assert len(list(reader.frames())) == len(stamps)


def test_a_frame_that_stays_is_kept_again_and_a_burst_is_thinned(tmp_path):
    """By hand: slots of 2200 / 31 = 71 ms, so 1000 ms are 14 of them; slots of 880 / 40 = 22 ms, so 84 ms are 4."""
    paused = greys(VideoReader(stamped(tmp_path / "a.mkv", PAUSE)).frames())
    assert paused.count(10) == 14
    assert max(np.diff(paused)) == 2
    burst = greys(VideoReader(stamped(tmp_path / "b.mkv", BURST)).frames())
    assert len(set(burst) & set(range(10, 30))) == 4


@pytest.mark.parametrize("rate", [25, Fraction(30000, 1001), 24], ids=str)
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        *(("a.mp4", "libx264", {"bf": 2}), ("a.mkv", "libx264", {"bf": 3}), ("a.ts", "libx264", {"bf": 2})),
        *(
            ("a.avi", "mpeg4", {}),
            ("b.avi", "mpeg4", {"bf": 2}),
            ("a.webm", "libvpx", {"cpu-used": 8, "deadline": "realtime"}),
        ),
        *(("a.mpg", "mpeg2video", {"bf": 2}), ("c.avi", "libx264", {"bf": 3})),
    ],
)
def test_a_constant_rate_is_counted(tmp_path, name, codec, options, rate):
    tick = Fraction(rate)
    path = tmp_path / name
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=tick, options={k: str(v) for k, v in options.items()})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 10
        stream.bit_rate = 400_000
        for i in range(61):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    reader = VideoReader(path)
    assert greys(reader.frames()) == list(range(61))
    assert greys(reader.frames(every=7, start=3)) == list(range(3, 61, 7))
    assert reader.truncated is None


def test_a_wrong_rate_in_the_header_changes_nothing(tmp_path):
    """Frames 40 ms apart in files that claim 60 and 5 frames a second."""
    for claimed in (60, 5):
        reader = VideoReader(stamped(tmp_path / f"{claimed}.mkv", range(0, 2400, 40), rate=claimed))
        assert greys(reader.frames(every=2)) == list(range(0, 60, 2))


def test_a_jump_in_time_is_no_thousand_copies(tmp_path):
    day = 86_400_000
    jump = [40 * i + day * (i >= 30) for i in range(60)]
    assert greys(VideoReader(stamped(tmp_path / "a.mkv", jump)).frames()) == list(range(60))
    early = [40 * i + day * (i >= 1) for i in range(60)]
    assert greys(VideoReader(stamped(tmp_path / "b.mkv", early)).frames(every=4)) == list(range(0, 60, 4))
    slides = [20_000 * i for i in range(20)]
    assert greys(VideoReader(stamped(tmp_path / "c.mkv", slides)).frames()) == list(range(20))


def test_counting_goes_on_from_where_time_was(tmp_path):
    """Slots of 40 ms up to the jump: frame 9 fills four of them, those after the jump one each."""
    stamps = [*range(0, 400, 40), *range(520, 900, 20)]
    stamps += [stamps[-1] + 3_600_000 + 40 * i for i in range(10)]
    before = on_screen(stamps[:29])
    got = greys(VideoReader(stamped(tmp_path / "a.mkv", stamps)).frames())
    assert got == [*before, *range(29, 39)]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([None] * 5, [0, 1, 2, 3, 4]),
        ([7, None, 9, 10], [0, 1, 2, 3]),
        ([0, 1, 2, 2, 3], [0, 1, 2, 3, 4]),
        ([0, 1, 5, 4, 6], [0, 1, 5, 6, 7]),
        ([0, 1, 200, 201], [0, 1, 2, 3]),
        ([10, 11, 13, 14], [0, 1, 3, 4]),
    ],
)
def test_where_frames_stand(stamps, expected):
    clock = _Clock(Fraction(1), Fraction(100))
    assert [clock.advance(stamp) for stamp in stamps] == expected


def test_the_rate_comes_from_the_timestamps():
    assert _mean_rate([0, 120, 40, 80]) == Fraction(3, 120)
    assert _mean_rate([]) is _mean_rate([5]) is _mean_rate([0, 0, 0]) is None


def test_one_frame(tmp_path):
    for name in ("a.mp4", "a.mkv"):
        assert greys(VideoReader(stamped(tmp_path / name, [0])).frames(every=10)) == [0]


def test_hidden_frames_of_vp8_do_not_count(tmp_path):
    """Every sixth packet is repeated, 20 ms later, as a frame that is not shown."""
    import av

    plain = stamped(tmp_path / "a.webm", range(0, 2400, 40), codec="libvpx", rate=25, deadline="realtime")
    with av.open(str(plain)) as source, av.open(str(tmp_path / "b.webm"), "w") as target:
        (stream,) = source.streams.video
        out = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if not packet.size:
                continue
            data, stamp = bytes(packet), packet.pts
            for shown in (True, False) if stamp % 240 == 200 else (True,):
                copy = av.Packet(data if shown else bytes([data[0] & ~16]) + data[1:])
                copy.pts = copy.dts = stamp + 20 * (not shown)
                copy.time_base, copy.stream, copy.is_keyframe = packet.time_base, out, packet.is_keyframe and shown
                target.mux(copy)
    assert greys(VideoReader(tmp_path / "b.webm").frames()) == list(range(60))


def test_a_frame_that_cannot_be_converted_ends_the_video(make_video, monkeypatch):
    """PyAV's frames cannot be patched, so those that the reader times are put in other clothes."""

    class Bad:
        rotation = 0

        def to_ndarray(self, format):
            raise ValueError("no such conversion")

    reader = VideoReader(make_video("a.mp4", n=6))
    timed = list(reader._timed())
    monkeypatch.setattr(reader, "_timed", lambda: iter([*timed[:4], (Bad(), timed[4][1]), *timed[5:]]))
    assert greys(reader.frames()) == [0, 1, 2, 3]
    assert reader.truncated == "damaged after frame 4"
    with pytest.raises(Unreadable, match="no frames"):
        list(reader.frames(start=4))
