"""Source `frames`: folders of numbered pictures, each folder a video, as samples of T x {image}.

In: a folder, tar or zip with a picture a frame, as Something-Something v1, Jester and DAVIS are published. Out: clips
of every `frame_step`-th picture in the order of the numbers, img_2.jpg before img_10.jpg. The number is the last run of
digits in the name. Numbers go up by the same step all through a folder, 1 in most, 30 in some. Where they do not, as
pictures are missing, the clip is cut, so that time runs evenly in each; the folder is then listed among the rejects as
well.

Rejects: a picture without a number; a folder of several series, such as rgb_1.jpg beside flow_1.jpg, or with a number
twice; a clip with a picture that cannot be read, or of another size than the folder's first.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources import photos
from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import Layout, find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.videos import ClipsConfig, clip_key, too_short
from lvmlite.images import Unreadable, decode, shrink
from lvmlite.recipe import Range
from lvmlite.sample import split_of


@dataclass(frozen=True)
class FramesConfig(ClipsConfig):
    """Settings of `Frames`; of `ClipsConfig`, `path` may also be a tar or zip.

    max_samples: at most so many clips, chosen by a hash of the key.
    part_size: clips a part.
    val, test: fractions of folders held out where folders around them name no official split.
    """

    source: Literal["frames"] = "frames"
    name: str = "frames"
    licence: str = "unknown (user's own videos)"
    val: Annotated[float, Range(0, 1)] = 0.05
    test: Annotated[float, Range(0, 1)] = 0.05


class Frames(Listed):
    """Samples of `FramesConfig`; `seed` is there because every source takes one."""

    def __init__(self, config: FramesConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if there are no numbered pictures at `config.path`."""
        self.config = config
        self.frame_step = config.frame_step
        self._files = find_files(config.path, photos.SUFFIXES, "folders of numbered pictures")
        self._first: tuple[str, tuple[int, ...]] | None = None
        rejects = list(self._files.rejects)
        folders: dict[str, list[tuple[int, str]]] = {}
        series: dict[str, set[str]] = {}
        for name in self._files.names:
            folder, found = posixpath.dirname(name) or ".", number_of(name)
            if found is None:
                rejects.append(Reject(name, "no number in the name"))
            else:
                folders.setdefault(folder, []).append((found[1], name))
                series.setdefault(folder, set()).add(found[0])
        if not folders:
            raise ValueError(
                f"{config.path}: no numbered pictures found; a folder of 00001.jpg, 00002.jpg, ... is needed"
            )
        layout, entries = Layout(list(folders)), list[Entry]()
        for folder, pictures in sorted(folders.items()):
            split = layout.split(folder) or split_of(folder, config.val, config.test)
            if len(series[folder]) > 1:
                rejects.append(Reject(folder, "several series of names: a folder is one video"))
                continue
            pictures.sort()
            for item in cut(folder, pictures, config):
                if isinstance(item, Reject):
                    rejects.append(item)
                else:
                    start, names = item
                    payload, key = (pictures[0][1], names), clip_key(folder, start)
                    entries.append(Entry(key, folder, split, layout.category(folder), payload, len(names)))
        if not entries:
            raise ValueError(f"{config.path}: no clip found; for one, {rejects[-1].key}: {rejects[-1].reason}")
        super().__init__(config.name, config.licence, entries, rejects, config.part_size)
        self.shorten(config.max_samples)

    def read(self, entry: Entry, t: int) -> Mapping[str, Any]:
        first, names = entry.payload
        if self._first is None or self._first[0] != first:
            self._first = (first, self._picture(first).shape)
        picture = self._picture(names[t])
        if picture.shape != self._first[1]:
            raise Unreadable("pictures of a folder differ in size")
        return {"image": shrink(picture, self.config.max_side)}

    def _picture(self, name: str) -> np.ndarray:
        side = self.config.max_side
        return decode(self._files.open(name), min_size=(side, side))


def number_of(name: str) -> tuple[str, int] | None:
    """ "a/img_0012.jpg" -> ("img_*", 12): the last run of digits before the suffix, and the name around it."""
    match = re.fullmatch(r"(.*?)([0-9]{1,18})([^0-9]*)", posixpath.splitext(posixpath.basename(name))[0], re.DOTALL)
    return (f"{match[1]}*{match[3]}", int(match[2])) if match else None


def cut(
    folder: str, pictures: list[tuple[int, str]], config: ClipsConfig
) -> Iterator[tuple[int, tuple[str, ...]] | Reject]:
    """The clips of a folder as (number of the first picture, names), and what went wrong.

    Args:
        pictures: (number, name), sorted.
    """
    gaps = [b - a for (a, _), (b, _) in pairwise(pictures)]
    if 0 in gaps:
        yield Reject(folder, "two pictures of one number in a folder")
        return
    counts = Counter(gaps)
    step = max(counts, key=lambda gap: (counts[gap], -gap), default=1)
    breaks = [i for i, gap in enumerate(gaps, 1) if gap != step]
    if breaks:
        yield Reject(folder, "numbers missing: clips are cut there")
    n_clips = 0
    for begin, end in pairwise([0, *breaks, len(pictures)]):
        kept = pictures[begin : end : config.frame_step]
        for i in range(0, len(kept), config.clip_frames):
            clip = kept[i : i + config.clip_frames]
            if n_clips == config.max_clips:
                return
            n_clips += 1
            if len(clip) < min(config.min_frames, config.clip_frames):
                yield too_short(clip_key(folder, clip[0][0]), config)
            else:
                yield clip[0][0], tuple(name for _, name in clip)
