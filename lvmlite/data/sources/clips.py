"""Videos as files, one a frame, cut into clips: what the sources of annotated videos share.

In: names of files. Out: `Video`s, and of them `listed.Entry`s of at most so many frames.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import Files
from lvmlite.data.sources.listed import Entry
from lvmlite.data.sources.published import PublishedConfig
from lvmlite.data.sources.videos import clip_key
from lvmlite.images import Unreadable


@dataclass(frozen=True)
class Video:
    """A video. `frames`: for each frame in order what the source's `read` needs."""

    name: str
    group: str
    split: str
    frames: tuple[Any, ...]


def cut_clips(videos: Iterable[Video], frame_step: int, clip_frames: int) -> Iterator[Entry]:
    """Every `frame_step`-th frame of each video, in clips of at most `clip_frames` that overlap nothing.

    The key says which frame of the video is the first: "seq#000120". The payload is the frames.
    """
    for video in videos:
        for start in range(0, len(video.frames), frame_step * clip_frames):
            frames = video.frames[start : start + frame_step * clip_frames : frame_step]
            yield Entry(clip_key(video.name, start), video.group, video.split, None, frames, len(frames))


def in_order(names: Iterable[str]) -> list[str]:
    """File names as people count: "2.jpg" before "10.jpg"."""
    return sorted(names, key=lambda name: ([int(number) for number in re.findall(r"\d+", name)], name))


def numbering(videos: Iterable[Iterable[str]]) -> int:
    """By how much the numbers of neighbouring frames differ, mostly: 5 where every fifth frame of a video was kept.

    Args:
        videos: names of the frames of each, in order.
    """
    gaps: Counter[int] = Counter()
    for names in videos:
        numbers = [int(found[-1]) if (found := re.findall(r"\d+", name)) else 0 for name in names]
        gaps.update(b - a for a, b in pairwise(numbers))
    return max(1, gaps.most_common(1)[0][0]) if gaps else 1


def frames_of(files: Files, images: str, masks: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Video -> its frames in order as (photo, mask or ""), of two folders that hold a folder a video."""
    videos: dict[str, list[str]] = {}
    for name in files.names:
        if name.startswith(images) and name.lower().endswith(".jpg"):
            video, _, frame = name[len(images) :].rpartition("/")
            if video and frame:
                videos.setdefault(video, []).append(name)
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for video in sorted(videos):
        pairs = ((photo, f"{masks}{photo[len(images) : -4]}.png") for photo in in_order(videos[video]))
        found[video] = tuple((photo, mask if mask in files else "") for photo, mask in pairs)
    return found


def listed_videos(
    files: Files,
    config: PublishedConfig,
    lists: Mapping[str, Sequence[str]],
    folders: tuple[str, str],
    rejects: list[Reject],
) -> Iterator[Video]:
    """The videos that official lists name; those that are not there, and how many are in no list, go to `rejects`.

    Args:
        lists: "train", "val" or "test" -> names its list may have.
        folders: of photos and of masks, see `frames_of`.

    Raises:
        ValueError: there is no list.
    """
    there = frames_of(files, *folders)
    listed: dict[str, str] = {}
    for official, names in lists.items():
        found = [name for name in names if name in files]
        listed |= dict.fromkeys(read_list(files, found[0]) if found else (), official)
    if not listed:
        some = " nor ".join(names[0] for names in lists.values())
        raise ValueError(f"{files.path}: neither {some}, which say what to read, is there or names a video")
    for video, official in listed.items():
        if video in there:
            yield Video(video, video, config.split(official, video), there[video])
        else:
            rejects.append(Reject(video, "listed, but not there"))
    if others := len(there.keys() - listed.keys()):
        rejects.append(Reject(folders[0], f"videos in no list: {others}"))


def read_list(files: Files, name: str) -> list[str]:
    """The videos a list names, one a line, or as 2016 does by the files of each frame. Raises ValueError."""
    try:
        lines = files.read(name).decode("utf-8").split("\n")
    except (Unreadable, UnicodeDecodeError) as error:
        raise ValueError(f"{files.path}: {name}: cannot be read as a list of videos") from error
    first = [line.split()[0] for line in lines if line.strip()]
    return list(dict.fromkeys(word.split("/")[-2] or word if "/" in word else word for word in first))


def only_masked(video: Video, rejects: list[Reject]) -> Video | None:
    """The video without the frames (photo, mask) whose mask is ""; None if no frame is left. Says so in `rejects`."""
    frames = tuple(frame for frame in video.frames if frame[1])
    if len(frames) < len(video.frames):
        rejects.append(Reject(video.name, "some frames have no mask: left out" if frames else "no masks"))
    return replace(video, frames=frames) if frames else None
