"""What sources of packed samples share: settings, the list of packed files, and frames decoded from columns of bytes.

In: a path or pattern of packed files (tar shards, Parquet), and for each sample the bytes of its photo and of its
annotation pictures. Out: names of files with their official split, and frames of native annotations.

A pattern names many files at once: ``data/{00000..00012}.tar`` or ``{train,val}/{0..9}.tar``.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from lvmlite.data.sources.base import LazyFrames, Source
from lvmlite.data.sources.files import SPLIT_FOLDERS, Layout, list_files
from lvmlite.data.sources.maps import READABLE, MapsConfig, check_size
from lvmlite.images import decode, shrink
from lvmlite.recipe import Range
from lvmlite.sample import Sample, split_of


@dataclass(frozen=True)
class ColumnsConfig(MapsConfig):
    """Settings of every source of packed samples: those of `MapsConfig`, and

    path: a folder (searched through), one file, or a pattern with {000..012} or {a,b}.
    columns: column -> the native annotation that its pictures hold: classes, instances, boundaries, depth, disparity,
        normals (in colours), or target.
    max_side: where there are no annotations, a photo whose short side is longer is reduced to it when read.
    max_samples: at most so many, spread evenly over the parts: the first of each.
    val, test: shares held out, by a hash of the key, where names of folders or files tell no official split.
    """

    path: str
    columns: dict[str, str] = field(default_factory=dict)
    max_side: Annotated[int, Range(1)] = 1024
    max_samples: Annotated[int, Range(1)] | None = None
    val: Annotated[float, Range(0, 1)] = 0.05
    test: Annotated[float, Range(0, 1)] = 0.05
    licence: str = "unknown (user's own pictures)"

    def annotations(self) -> tuple[str, ...]:
        """The native annotations of `columns`. Raises ValueError: one that is not known, or given twice."""
        for column, annotation in self.columns.items():
            if annotation not in READABLE:
                raise ValueError(f"columns.{column}: '{annotation}' is none of {', '.join(READABLE)}")
        names = tuple(self.columns.values())
        if len(set(names)) < len(names):
            raise ValueError(f"columns: two columns give the same annotation; each of {', '.join(names)} once")
        return names


class Packed(Source):
    """Base class: packed files, and samples of one frame made of bytes.

    Raises:
        ValueError: no such files, or a column that holds what is not known.
    """

    def __init__(self, config: Any, suffixes: Collection[str], what: str) -> None:
        self.config: Any = config
        self.name, self.licence, self.annotations = config.name, config.licence, config.annotations()
        self.files, self.rejects = list_files(config.path, suffixes, what)
        self.splits = official_splits(list(self.files))

    def packed_sample(self, file: str, key: str, category: str | None, columns: Mapping[str, bytes]) -> Sample:
        """`columns`: "image" and native annotations, as bytes."""
        split = self.splits[file] or split_of(key, self.config.val, self.config.test)
        return Sample(key, key, self.name, split, category, PackedFrame(self.config, columns))

    def locate(self, key: str) -> tuple[str, str]:
        """ "a/b.tar/c/d" -> ("a/b.tar", "c/d"). Raises KeyError."""
        at = key.find("/")
        while at >= 0:
            if key[:at] in self.files:
                return key[:at], key[at + 1 :]
            at = key.find("/", at + 1)
        raise KeyError(key)


@dataclass(frozen=True)
class PackedFrame(LazyFrames):
    """The one frame of a packed sample: decoded when indexed."""

    config: ColumnsConfig
    columns: Mapping[str, bytes]

    def __len__(self) -> int:
        return 1

    def frame(self, t: int) -> Mapping[str, Any]:
        if len(self.columns) == 1:
            side = self.config.max_side
            return {"image": shrink(decode(self.columns["image"], min_size=(side, side)), side)}
        frame = {"image": decode(self.columns["image"])}
        for annotation, data in self.columns.items():
            if annotation != "image":
                frame[annotation] = self.config.read_map(annotation, data)
                check_size(frame[annotation], frame["image"], annotation)
        return frame


def official_splits(names: Sequence[str]) -> dict[str, str | None]:
    """The official split of every packed file: by folder as `Layout` has it, or else by a word of every file's name.

    "train-00000-of-00002.parquet" and "validation-00000-of-00001.parquet" are "train" and "val"; "train" alone is left
    to the hash.
    """
    layout = Layout(names)
    if layout.official:
        return {name: layout.split(name) for name in names}
    words = {name: re.split(r"[^a-z]+", posixpath.basename(name).lower()) for name in names}
    found = {name: {SPLIT_FOLDERS[word] for word in w if word in SPLIT_FOLDERS} for name, w in words.items()}
    splits = {name: min(some) for name, some in found.items() if len(some) == 1}
    official = len(splits) == len(names) and "train" in splits.values() and len(set(splits.values())) > 1
    return {name: splits[name] if official else None for name in names}


def shares(sizes: Sequence[int], most: int | None) -> list[int]:
    """How many samples to take of each part, at most `most` in all: in proportion to their sizes.

    ``shares([10, 10, 20], 8) == [2, 2, 4]``
    """
    total = sum(sizes)
    if most is None or most >= total:
        return list(sizes)
    ends = [most * end // total for end in itertools.accumulate(sizes)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
