"""Videos as files, one a frame: their order, their numbering, and the clips they are cut into."""

from __future__ import annotations

import pytest

from lvmlite.data.sources.clips import Video, cut_clips, in_order, numbering, read_list
from lvmlite.data.sources.files import find_files


def test_frames_are_in_the_order_people_count():
    assert in_order(["s/10.jpg", "s/9.jpg", "s/100.jpg"]) == ["s/9.jpg", "s/10.jpg", "s/100.jpg"]
    assert in_order(["b.jpg", "a.jpg"]) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("videos", "step"),
    [
        ([["v1/00000.jpg", "v1/00005.jpg", "v1/00010.jpg"], ["v2/7.jpg", "v2/8.jpg"]], 5),
        ([["v9/a.jpg", "v9/b.jpg"]], 1),
        ([["v/3.jpg"]], 1),
        ([], 1),
    ],
)
def test_the_step_between_frames(videos, step):
    assert numbering(videos) == step


def test_lists_name_videos_or_the_files_of_their_frames(tmp_path):
    (tmp_path / "a.txt").write_text("bear\n\n/480p/camel/00000.jpg /x/y.png\n/480p/camel/00001.jpg\n/stray\n")
    assert read_list(find_files(str(tmp_path), [".txt"], "lists"), "a.txt") == ["bear", "camel", "/stray"]


def test_clips_overlap_nothing_and_name_their_first_frame():
    clips = list(cut_clips([Video("a", "room", "val", tuple(range(11)))], frame_step=2, clip_frames=4))
    assert [(c.key, c.group, c.split, c.payload, c.n_frames) for c in clips] == [
        ("a#000000", "room", "val", (0, 2, 4, 6), 4),
        ("a#000008", "room", "val", (8, 10), 2),
    ]
