"""Source `videos`: video files as samples of T x {image}; and `Clips`, which sources of video files share.

In: a folder of videos, or one, in any format FFmpeg reads. Out: clips of every `frame_step`-th frame, even in time (see
`images.video`); a `Reject` for a file, or the end of one, that cannot be decoded. A file is read once from start to
end. What is in memory is one clip of reduced frames, clip_frames * max_side^2 * 3 * 16/9 bytes for wide pictures: 360
MB with the defaults, and never more than `MAX_CLIP_BYTES`, as a clip of bigger frames has fewer; two of them while a
builder holds the last sample and asks for the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Part, Reject, Source, chosen_of, parts_of
from lvmlite.data.sources.files import Layout, list_files
from lvmlite.images import Unreadable, VideoReader, shrink
from lvmlite.recipe import Range
from lvmlite.sample import Sample, split_of

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".wmv", ".flv", ".ogv", ".3gp", ".vob", ".y4m"),
)
MAX_CLIP_BYTES = 400 * 2**20


@dataclass(frozen=True)
class ClipsConfig:
    """How sources of videos cut clips.

    path: a folder (searched through), one file, or a pattern with {000..012} or {a,b}.
    frame_step: of so many frames one is kept. LVM reads videos at strides 10, 20 and 30, in the video's own frames:
        those must be multiples of this.
    clip_frames: at most so many kept frames a clip; a longer video gives several, one after the other.
    max_clips: at most so many clips a video, from its start.
    min_frames: a clip (the last of a video) of fewer kept frames is rejected.
    max_side: a frame whose short side is longer is reduced to it when read.
    max_samples: at most so many videos, chosen by a hash of the name; each may give several clips.
    part_size: videos a part.
    """

    path: str
    frame_step: Annotated[int, Range(1)] = 10
    clip_frames: Annotated[int, Range(1)] = 256
    max_clips: Annotated[int, Range(1)] | None = None
    min_frames: Annotated[int, Range(1)] = 2
    max_side: Annotated[int, Range(1)] = 512
    max_samples: Annotated[int, Range(1)] | None = None
    part_size: Annotated[int, Range(1)] = 16


@dataclass(frozen=True)
class VideosConfig(ClipsConfig):
    """Settings of `Videos`.

    val, test: fractions of files held out where folders name no official split.
    """

    source: Literal["videos"] = "videos"
    name: str = "videos"
    licence: str = "unknown (user's own videos)"
    val: Annotated[float, Range(0, 1)] = 0.05
    test: Annotated[float, Range(0, 1)] = 0.05


@dataclass(frozen=True)
class Video:
    """A video file. `group`, `split` and `category` are those of its samples."""

    path: Path
    group: str
    split: str
    category: str | None


class Clips(Source):
    """Base class of sources of video files. Nothing is drawn.

    Args:
        name, licence: of `Source`.
        config: the settings of clips.
        videos: name of a file, the beginning of its samples' keys -> the file. In a fixed order.
        rejects: what listing passed over, and why.
    """

    def __init__(
        self, name: str, licence: str, config: ClipsConfig, videos: Mapping[str, Video], rejects: Iterable[Reject] = ()
    ) -> None:
        self.name, self.licence, self.config = name, licence, config
        self.frame_step = config.frame_step
        kept = chosen_of(videos, config.max_samples)
        self._videos = {each: video for each, video in videos.items() if each in kept}
        self._rejects = tuple(rejects)

    def parts(self) -> list[Part]:
        """Parts of `part_size` files; before them, if listing passed anything over, one part of rejects."""
        return parts_of(list(self._videos), self.config.part_size, self._rejects, self._about)

    def _about(self, names: Sequence[str]) -> list[tuple[str, str, str | None]]:
        """What lists and folders say of videos."""
        return [(video.group, video.split, video.category) for video in map(self._videos.__getitem__, names)]

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        """A file that ends too early gives its readable clips, then a `Reject` that says so."""
        for name in part.items:
            if isinstance(name, Reject):
                yield name
                continue
            clips = read_clips(self._videos[name].path, name, self.config)
            # `map`, as a loop's variable would hold a clip while the next one is read.
            yield from map(partial(self._item, name), islice(clips, self.config.max_clips))

    def sample(self, key: str) -> Sample:
        """Decodes the file up to the clip: as long as reading it in order takes."""
        name, start = split_key(key)
        if name not in self._videos or key != clip_key(name, start):
            raise KeyError(key)
        pictures = read_clip(self._videos[name].path, start, self.config, key, self.config.max_clips)
        return self._sample(name, start, pictures)

    def _item(self, name: str, item: tuple[int, list[np.ndarray]] | Reject) -> Sample | Reject:
        return item if isinstance(item, Reject) else self._sample(name, *item)

    def _sample(self, name: str, start: int, pictures: list[np.ndarray]) -> Sample:
        video = self._videos[name]
        frames = [{"image": picture} for picture in pictures]
        return Sample(clip_key(name, start), video.group, self.name, video.split, video.category, frames)


class Videos(Clips):
    """Samples of `VideosConfig`; `seed` is there because every source takes one."""

    def __init__(self, config: VideosConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if there is no video at `config.path`."""
        paths, rejects = list_files(config.path, SUFFIXES, "videos")
        layout = Layout(list(paths))
        videos = {}
        for name, file in paths.items():
            split = layout.split(name) or split_of(name, config.val, config.test)
            videos[name] = Video(file, name, split, layout.category(name))
        super().__init__(config.name, config.licence, config, videos, rejects)


def clip_key(name: str, start: int) -> str:
    """ "a.mp4", 120 -> "a.mp4#000120": the clip whose first frame is number 120 of the file."""
    return f"{name}#{start:06d}"


def split_key(key: str) -> tuple[str, int]:
    """Inverse of `clip_key`. Raises KeyError."""
    match = re.fullmatch(r"(.+)#(\d{6,})", key, re.DOTALL)
    if match is None:
        raise KeyError(key)
    return match[1], int(match[2])


def too_short(key: str, config: Any) -> Reject:
    """What a clip of fewer than `config.min_frames` is."""
    return Reject(key, f"too short: fewer than {config.min_frames} kept frames")


def read_clips(path: Path, name: str, config: Any) -> Iterator[tuple[int, list[np.ndarray]] | Reject]:
    """The clips of a file as (number of the first frame, frames uint8 (H, W, 3)), and what went wrong.

    Args:
        config: frame_step, clip_frames, min_frames and max_side are read.
    """
    start, clip, length = 0, list[np.ndarray](), 0
    try:
        reader = VideoReader(path)
        for frame in reader.frames(config.frame_step):
            clip.append(shrink(frame, config.max_side))
            length = length or _length(clip[0], config)
            if len(clip) == length:
                full, clip = [clip], []
                yield start, full.pop()  # from here on it is the caller's alone
                start += length * config.frame_step
    except Unreadable as error:
        yield Reject(name, error.reason)
        return
    if len(clip) >= config.min_frames:
        yield start, clip
    elif clip:
        yield too_short(clip_key(name, start), config)
    if reader.truncated:
        yield Reject(name, f"truncated: {reader.truncated}")


def read_clip(path: Path, start: int, config: Any, key: str, max_clips: int | None = None) -> list[np.ndarray]:
    """One clip of `read_clips`. Raises KeyError(key) if the file has no such among its first clips, and Unreadable."""
    reader = VideoReader(path)
    clip: list[np.ndarray] = []
    length = _length(shrink(next(reader.frames()), config.max_side), config)
    number, odd = divmod(start, length * config.frame_step)
    if not odd and (max_clips is None or number < max_clips):
        clip = [shrink(frame, config.max_side) for frame in reader.frames(config.frame_step, length, start)]
    if len(clip) < min(config.min_frames, length):
        raise KeyError(key)
    return clip


def _length(frame: np.ndarray, config: Any) -> int:
    """Kept frames a clip of a file whose first frame, reduced, is this one."""
    return int(max(1, min(config.clip_frames, MAX_CLIP_BYTES // frame.nbytes)))
