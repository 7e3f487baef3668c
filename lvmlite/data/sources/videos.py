"""Source `videos`: video files as samples of T x {image}.

In: a folder of videos, or one, in any format FFmpeg reads. Out: clips of every `frame_step`-th frame; a
`Reject` for a file, or the end of one, that cannot be decoded. A file is read once from start to end, one
clip is in memory at a time: clip_frames * max_side^2 * 3 * 16/9 bytes for wide pictures, at most about 360 MB
with the defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Part, Reject, Source
from lvmlite.data.sources.files import Folder, Layout
from lvmlite.images import Unreadable, VideoReader, shrink
from lvmlite.recipe import Range
from lvmlite.sample import Sample, split_of

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".wmv", ".flv", ".ogv", ".3gp", ".vob", ".y4m"),
)
REJECTS = "rejects"  # the part that reports what listing passed over


@dataclass(frozen=True)
class VideosConfig:
    """Settings of `Videos`.

    path: a folder (searched through) or one file.
    frame_step: of so many frames one is kept. LVM reads videos at strides 10, 20 and 30: 1, 2 and 3 of these.
    clip_frames: at most so many kept frames a clip; a longer video gives several, one after the other.
    max_clips: at most so many clips a file, from its start.
    min_frames: a clip (the last of a file) of fewer kept frames is rejected.
    max_side: a frame whose short side is longer is reduced to it when read.
    part_size: files a part.
    val, test: fractions of files held out where folders name no official split.
    """

    path: str
    source: Literal["videos"] = "videos"
    name: str = "videos"
    frame_step: Annotated[int, Range(1)] = 10
    clip_frames: Annotated[int, Range(1)] = 256
    max_clips: Annotated[int, Range(1)] | None = None
    min_frames: Annotated[int, Range(1)] = 2
    max_side: Annotated[int, Range(1)] = 512
    part_size: Annotated[int, Range(1)] = 16
    licence: str = "unknown (user's own videos)"
    val: Annotated[float, Range(0, 1)] = 0.05
    test: Annotated[float, Range(0, 1)] = 0.05


class Videos(Source):
    """Samples of `VideosConfig`. Nothing is drawn: `seed` is there because every source takes one."""

    def __init__(self, config: VideosConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if there is no video at `config.path`."""
        self.config = config
        self.name, self.licence = config.name, config.licence
        path = Path(config.path).expanduser()
        self._rejects: tuple[Reject, ...] = ()
        if path.is_dir():
            folder = Folder(path, SUFFIXES)
            self._paths = {name: folder.open(name) for name in folder.names}
            self._rejects = tuple(folder.rejects)
        elif path.is_file():
            self._paths = {path.name: path}
        else:
            raise ValueError(f"{config.path}: no such file or folder; give a video or a folder of videos")
        if not self._paths:
            raise ValueError(f"{config.path}: no videos found (looked for {', '.join(sorted(SUFFIXES))})")
        self._layout = Layout(list(self._paths))

    def parts(self) -> list[Part]:
        """Parts of `part_size` files; before them, if listing passed anything over, one part of rejects."""
        names, size = list(self._paths), self.config.part_size
        chunks = [tuple(names[i : i + size]) for i in range(0, len(names), size)]
        parts = [Part(f"{i:05d}", chunk) for i, chunk in enumerate(chunks)]
        return [Part(REJECTS, self._rejects), *parts] if self._rejects else parts

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        """A file that ends too early gives its readable clips, then a `Reject` that says so."""
        for name in part.items:
            if isinstance(name, Reject):
                yield name
                continue
            clips = read_clips(self._paths[name], name, self.config)
            for item in islice(clips, self.config.max_clips):
                yield item if isinstance(item, Reject) else self._sample(name, *item)

    def sample(self, key: str) -> Sample:
        """Decodes the file up to the clip: as long as reading it in order takes."""
        name, start = split_key(key)
        limit = (self.config.max_clips or start + 1) * self.config.clip_frames * self.config.frame_step
        if name not in self._paths or start >= limit or key != clip_key(name, start):
            raise KeyError(key)
        return self._sample(name, start, read_clip(self._paths[name], start, self.config, key))

    def _sample(self, name: str, start: int, pictures: list[np.ndarray]) -> Sample:
        return Sample(
            key=clip_key(name, start),
            group=name,
            source=self.name,
            split=self._layout.split(name) or split_of(name, self.config.val, self.config.test),
            category=self._layout.category(name),
            frames=[{"image": picture} for picture in pictures],
        )


def clip_key(name: str, start: int) -> str:
    """ "a.mp4", 120 -> "a.mp4#000120": the clip whose first frame is number 120 of the file."""
    return f"{name}#{start:06d}"


def split_key(key: str) -> tuple[str, int]:
    """Inverse of `clip_key`. Raises KeyError."""
    match = re.fullmatch(r"(.+)#(\d{6,})", key, re.DOTALL)
    if match is None:
        raise KeyError(key)
    return match[1], int(match[2])


def read_clips(path: Path, name: str, config: Any) -> Iterator[tuple[int, list[np.ndarray]] | Reject]:
    """The clips of a file as (number of the first frame, frames uint8 (H, W, 3)), and what went wrong.

    Args:
        config: frame_step, clip_frames, min_frames and max_side are read.
    """
    start, clip = 0, []
    try:
        reader = VideoReader(path)
        for frame in reader.frames(config.frame_step):
            clip.append(shrink(frame, config.max_side))
            if len(clip) == config.clip_frames:
                yield start, clip
                start, clip = start + config.clip_frames * config.frame_step, []
    except Unreadable as error:
        yield Reject(name, error.reason)
        return
    if len(clip) >= config.min_frames:
        yield start, clip
    elif clip:
        yield Reject(clip_key(name, start), f"too short: fewer than {config.min_frames} kept frames")
    if reader.truncated:
        yield Reject(name, f"truncated: {reader.truncated}")


def read_clip(path: Path, start: int, config: Any, key: str) -> list[np.ndarray]:
    """One clip of `read_clips`. Raises KeyError(key) if the file has no such clip, and Unreadable."""
    frames: Iterable[np.ndarray] = ()
    if start % (config.clip_frames * config.frame_step) == 0:
        frames = VideoReader(path).frames(config.frame_step, config.clip_frames, start)
    clip = [shrink(frame, config.max_side) for frame in frames]
    if len(clip) < min(config.min_frames, config.clip_frames):
        raise KeyError(key)
    return clip
