"""Sentences of frames of one clip: `video`, `long` (64 frames, LVM-Lite section 4.4), and `views` of a turntable.

Strides count the video's own frames. A store keeps every `frame_step`-th of them, so a stride is a multiple of it. A
clip too short for every stride named is read at the largest stride that fits; one of fewer frames than the sentence
needs is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws, key_of, mix
from lvmlite.data.sentences.base import Clips, Columns, SentenceType, Share, by_source
from lvmlite.data.store import Shard
from lvmlite.recipe import Range

Stride = Annotated[int, Range(1)]
Sampling = Literal["strides", "random", "uniform"]
STRIDES = (10, 20, 30)  # LVM


@dataclass
class VideoConfig:
    """Frames of one clip, in order.

    Attributes:
        pictures: frames in a sentence.
        sampling: "strides" draws a stride and a start (LVM: 10, 20, 30); "random" draws frames anywhere in the clip
            (LVM-Lite: 16 by random sampling); "uniform" spreads them over the whole clip from a random start.
        strides: in frames of the video: multiples of the source's frame_step.
    """

    sentence: Literal["video"] = "video"
    share: Share = 1.0
    sources: list[str] | None = None
    pictures: Annotated[int, Range(2)] = 16
    sampling: Sampling = "strides"
    strides: list[Stride] = field(default_factory=lambda: list(STRIDES))

    def __post_init__(self) -> None:
        check_named(self.strides)


@dataclass
class LongConfig:
    """Frames of a long video: `video` with 64 pictures (16,384 positions of 256 tokens each). Fields as there."""

    sentence: Literal["long"] = "long"
    share: Share = 1.0
    sources: list[str] | None = None
    pictures: Annotated[int, Range(2)] = 64
    sampling: Sampling = "strides"
    strides: list[Stride] = field(default_factory=lambda: list(STRIDES))

    def __post_init__(self) -> None:
        check_named(self.strides)


def check_named(strides: Sequence[int]) -> None:
    """Raises ValueError if no stride is named."""
    if not strides:
        raise ValueError("strides is empty: name at least one, e.g. [10]")


def check_strides(config: Any, steps: Mapping[str, int]) -> None:
    """Raises ValueError if a stride of a sentence is no multiple of a source's frame_step: such frames are not kept.

    Args:
        config: of a sentence that has strides.
        steps: frame_step of the sources it reads.
    """
    for source, step in steps.items():
        if config.sampling == "strides" and (wrong := [s for s in config.strides if s % step]):
            some = ", ".join(str(step * i) for i in (1, 2, 3))
            raise ValueError(
                f"sentence '{config.sentence}': stride {wrong[0]} is no multiple of {step}, the frame_step of source "
                f"'{source}'; use {some}, ... or build the store with another frame_step"
            )


def frame_steps(shards: Sequence[Shard]) -> dict[str, int]:
    """Source -> frame_step, of sources with samples of several frames."""
    return {s.info.source: s.about.get("frame_step", 1) for s in shards if s.info.frames_per_sample != 1}


class Sampler:
    """Which frames of a clip are read.

    Args:
        n: frames of a sentence.
        config: sampling and strides are read; shards: of one frame_step.
    """

    def __init__(self, n: int, config: Any, shards: Sequence[Shard]):
        steps = frame_steps(shards)
        check_strides(config, steps)
        step = next(iter(steps.values()), 1)
        self.n, self.sampling = n, config.sampling
        self.strides = np.sort(np.array(config.strides, np.int64)) // step

    def offsets(self, length: np.ndarray, draws: Draws) -> np.ndarray:
        """Frames of clips of `length` (m,) >= n frames: (m, n) int64, ascending, each below its clip's length."""
        n, count = self.n, np.arange(self.n)
        if self.sampling == "uniform":
            phase = draws.integers("phase", np.full(len(length), 1 << 16))
            return ((count * (1 << 16) + phase[:, None]) * length[:, None]) // (n << 16)
        if self.sampling == "random":
            key = mix(draws.sentences.astype(np.uint64) ^ np.uint64(key_of(draws.key, "frames")))
            places = np.arange(int(length.max(initial=n)))
            noise = mix(key[:, None] ^ mix(places.astype(np.uint64)))
            noise = np.where(places < length[:, None], noise >> np.uint64(1), np.uint64(2**64 - 1))
            return np.sort(np.argpartition(noise, n - 1, axis=1)[:, :n], axis=1)
        fitting = np.searchsorted(self.strides * (n - 1), length - 1, side="right")
        stride = self.strides[draws.integers("stride", np.maximum(fitting, 1))]
        stride = np.minimum(stride, (length - 1) // (n - 1))
        start = draws.integers("start", length - (n - 1) * stride)
        return start[:, None] + stride[:, None] * count


class Video(SentenceType):
    """Items are clips of at least `pictures` frames: one sentence a clip and epoch."""

    def __init__(self, config: Any, shards: Sequence[Shard], columns: Columns):
        self.name, self.items_per_sentence, self.n_pictures = config.sentence, 1, config.pictures
        self.kinds = [IMAGE] * config.pictures
        groups = list(by_step(shards).values())
        self.samplers = [Sampler(config.pictures, config, some) for some in groups]
        self.clips = [Clips(some, columns, [(IMAGE, 0)], config.pictures) for some in groups]
        self.ends = np.cumsum([len(clips) for clips in self.clips])
        self.n_items = int(self.ends[-1]) if groups else 0
        short = sum(clips.too_short for clips in self.clips)
        self.left_out = {f"fewer than {config.pictures} frames": short} if short else {}

    @classmethod
    def expand(cls, config: Any, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        if config.sources is None:
            shards = [shard for shard in shards if not shard.about.get("views")]
        return [cls(config, shards, columns)]

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        column = np.empty((len(items), self.n_pictures), np.int64)
        row = np.empty_like(column)
        which = np.searchsorted(self.ends, items[:, 0], side="right")
        for g, (clips, sampler) in enumerate(zip(self.clips, self.samplers)):
            mine = which == g
            clip = items[mine, 0] - (self.ends[g] - len(clips))
            row[mine] = clips.start[clip][:, None] + sampler.offsets(clips.length[clip], draws.of(mine))
            column[mine] = clips.columns[IMAGE, 0][clip][:, None]
        return column, row


def by_step(shards: Sequence[Shard]) -> dict[int, list[Shard]]:
    """Shards with samples of several frames, by frame_step, in their order."""
    groups: dict[int, list[Shard]] = {}
    for shard in shards:
        if shard.info.frames_per_sample != 1:
            groups.setdefault(shard.about.get("frame_step", 1), []).append(shard)
    return groups


@dataclass
class ViewsConfig:
    """Consecutive views of an object on a turntable, from a random one on, around the end (LVM: 16 of 24).

    `sources`: default: those whose frames go round.
    """

    sentence: Literal["views"] = "views"
    share: Share = 1.0
    sources: list[str] | None = None
    pictures: Annotated[int, Range(2)] = 16


class Views(SentenceType):
    """Items are objects of at least `pictures` views: one sentence an object and epoch."""

    def __init__(self, config: ViewsConfig, shards: Sequence[Shard], columns: Columns):
        self.name, self.items_per_sentence, self.n_pictures = "views", 1, config.pictures
        self.kinds = [IMAGE] * config.pictures
        self.clips = Clips(shards, columns, [(IMAGE, 0)], config.pictures)
        self.n_items = len(self.clips)
        self.left_out = {f"fewer than {config.pictures} views": self.clips.too_short} if self.clips.too_short else {}

    @classmethod
    def expand(cls, config: ViewsConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        going_round = [shard for shard in shards if shard.about.get("views")]
        if config.sources is not None and (flat := [s for s in by_source(shards) if s not in by_source(going_round)]):
            raise ValueError(
                f"sentence 'views': the frames of source '{flat[0]}' do not go round an object; use sentence: video"
            )
        return [cls(config, going_round, columns)]

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        clip = items[:, 0]
        length = self.clips.length[clip]
        first = draws.integers("start", length)
        rows = self.clips.start[clip][:, None] + (first[:, None] + np.arange(self.n_pictures)) % length[:, None]
        return np.broadcast_to(self.clips.columns[IMAGE, 0][clip][:, None], rows.shape), rows
