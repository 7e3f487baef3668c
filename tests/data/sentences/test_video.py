"""Frames of one clip: at strides, at random, evenly; and views around an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lvmlite.data.sentences import Columns, LongConfig, VideoConfig, ViewsConfig
from lvmlite.data.sentences.video import Video

from ..toys import Made, make_store
from .reader import Reader

CLIPS = {"image": 1}


@pytest.mark.parametrize(
    ("pictures", "strides"), [(3, [1]), (3, [3, 1, 2]), (2, [7]), (5, [1, 2]), (8, [1, 2]), (4, [2, 30])]
)
def test_frames_of_one_clip_at_a_stride_that_fits(tmp_path: Path, pictures: int, strides: list[int]) -> None:
    """All (start, stride) that fit are drawn, and nothing else; strides that fit equally often.

    Where none fits, the stride shrinks to the largest that does.
    """
    lengths = [3, 8, 7, 20]
    made = make_store(tmp_path, [("clips", "train", lengths, {"image": 1})])
    reader = Reader(made, VideoConfig(pictures=pictures, strides=strides))
    span = pictures - 1
    clips = [i for i, n in enumerate(lengths) if n >= pictures]
    fits = {i: [s for s in strides if span * s < lengths[i]] or [(lengths[i] - 1) // span] for i in clips}
    (kind,) = reader.types
    assert kind.n_items == len(clips)
    n = 4000
    rows = np.array([[made.pictures[i][3] for i in row] for row in reader.read(n=n)])
    clip = np.searchsorted(np.cumsum(lengths), rows, side="right")
    assert (clip == clip[:, :1]).all()
    assert (clip[:, 0] == np.array(clips)[np.arange(n) % len(clips)]).all()
    stride = rows[:, 1] - rows[:, 0]
    assert (np.diff(rows, axis=1) == stride[:, None]).all()
    start = rows[:, 0] - (np.cumsum(lengths) - lengths)[clip[:, 0]]
    found = set(zip(clip[:, 0].tolist(), start.tolist(), stride.tolist()))
    assert found == {(i, a, s) for i in clips for s in fits[i] for a in range(lengths[i] - span * s)}
    for i in clips:
        share = np.array([(stride[clip[:, 0] == i] == s).mean() for s in fits[i]])
        assert np.abs(share - 1 / len(fits[i])).max() < 0.1


def test_video_counts_clips_of_every_shard_that_are_long_enough(made: Made) -> None:
    shards = made.store.select("train")
    assert [Video(VideoConfig(pictures=p, strides=[1]), shards, Columns()).n_items for p in (2, 3, 4, 8, 9, 21)] == [
        5,
        4,
        3,
        2,
        1,
        0,
    ]


def rows_of(made: Made, numbers: np.ndarray) -> np.ndarray:
    return np.array([[made.pictures[i][3] for i in row] for row in numbers])


@pytest.mark.parametrize("length", [6, 7, 40])
def test_uniform_spreads_over_the_whole_clip(tmp_path: Path, length: int) -> None:
    made = make_store(tmp_path, [("clips", "train", [length], CLIPS)])
    rows = rows_of(made, Reader(made, VideoConfig(pictures=6, sampling="uniform")).read(n=300))
    steps = np.diff(rows, axis=1)
    assert set(np.unique(steps)) <= {length // 6, -(-length // 6)}
    assert (rows[:, 0] < -(-length // 6)).all()
    assert (rows[:, -1] >= length - -(-length // 6)).all()
    assert set(rows[:, 0]) == set(range(-(-length // 6)))  # the start is drawn


def test_random_draws_any_frames_in_order(tmp_path: Path) -> None:
    """Each of the 10 sets of 3 of 5 frames is as likely as another; clips of other lengths beside it."""
    made = make_store(tmp_path, [("clips", "train", [5, 3, 9], CLIPS)])
    rows = rows_of(made, Reader(made, VideoConfig(pictures=3, sampling="random")).read(n=9000))
    assert (np.diff(rows, axis=1) > 0).all()
    first = rows[::3]
    sets, counts = np.unique(first, axis=0, return_counts=True)
    assert len(sets) == 10
    assert first.max() == 4
    assert np.abs(counts / len(first) - 0.1).max() < 0.03
    assert (rows[1::3] == [5, 6, 7]).all()
    assert set(np.unique(rows[2::3])) == set(range(8, 17))


def test_strides_count_the_frames_of_the_video(tmp_path: Path) -> None:
    """Kept frames are frame_step apart; two sources of different steps are read by one entry."""
    shards = [("slow", "train", [30], CLIPS), ("fast", "train", [30], CLIPS)]
    made = make_store(tmp_path, shards, about={"slow": {"frame_step": 10}, "fast": {"frame_step": 5}})
    reader = Reader(made, VideoConfig(pictures=4, strides=[10, 20]))
    assert reader.types[0].n_items == 2
    rows = rows_of(made, reader.read(n=400))
    shard = np.array([[made.pictures[i][0] for i in row] for row in reader.read(n=400)])
    strides = {name: set(np.unique(np.diff(rows[shard[:, 0] == name]))) for name in ("slow.0", "fast.1")}
    assert strides == {"slow.0": {1, 2}, "fast.1": {2, 4}}


def test_a_stride_between_kept_frames_is_refused(tmp_path: Path) -> None:
    made = make_store(tmp_path, [("clips", "train", [30], CLIPS)], about={"clips": {"frame_step": 10}})
    message = r"stride 15 is no multiple of 10, the frame_step of source 'clips'; use 10, 20, 30, \.\.\."
    with pytest.raises(ValueError, match=message):
        Reader(made, VideoConfig(strides=[10, 15]))
    Reader(made, VideoConfig(strides=[10, 15], sampling="uniform"))


def test_clips_that_are_too_short_are_counted(made: Made) -> None:
    assert Reader(made, VideoConfig(pictures=8)).types[0].left_out == {"fewer than 8 frames": 3}
    assert Reader(made, VideoConfig(pictures=2)).types[0].left_out == {}


def test_long_is_a_video_of_64_frames(tmp_path: Path) -> None:
    made = make_store(tmp_path, [("clips", "train", [256, 63, 70], CLIPS)], about={"clips": {"frame_step": 10}})
    reader = Reader(made, LongConfig())
    assert (reader.types[0].name, reader.types[0].n_pictures, reader.types[0].n_items) == ("long", 64, 2)
    rows = rows_of(made, reader.read(n=200))
    assert set(np.unique(np.diff(rows[::2]))) == {1, 2, 3}
    assert set(np.unique(np.diff(rows[1::2]))) == {1}  # 20 and 30 do not fit 70 frames


# --- views


def views(tmp_path: Path) -> Made:
    shards = [("table", "train", [24, 24, 10, 16], CLIPS), ("clips", "train", [40], CLIPS)]
    return make_store(tmp_path, shards, about={"table": {"views": True}})


def test_views_go_round(tmp_path: Path) -> None:
    made = views(tmp_path)
    reader = Reader(made, ViewsConfig())
    assert reader.types[0].n_items == 3
    assert reader.types[0].left_out == {"fewer than 16 views": 1}
    rows = rows_of(made, reader.read(n=600))
    for i, (start, n) in enumerate(((0, 24), (24, 24), (58, 16))):
        mine = rows[i::3] - start
        assert mine.min() >= 0
        assert mine.max() == n - 1
        assert ((mine[:, 1:] - mine[:, :-1]) % n == 1).all()
        assert set(mine[:, 0]) == set(range(n))


def test_videos_are_not_wrapped_nor_views_read_as_videos(tmp_path: Path) -> None:
    made = views(tmp_path)
    assert Reader(made, VideoConfig(pictures=4, strides=[1])).types[0].n_items == 1
    assert Reader(made, VideoConfig(pictures=4, strides=[1], sources=["table"])).types[0].n_items == 4  # if asked for
    with pytest.raises(ValueError, match="the frames of source 'clips' do not go round an object"):
        Reader(made, ViewsConfig(sources=["clips"]))


def test_configs_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="strides is empty"):
        VideoConfig(strides=[])
