"""Frames of a clip with their annotations: LVM's annotated videos (section 3.1), LVM-Lite's masks to frames (Table 9).

interleaved  frame 1, annotation 1, frame 2, annotation 2, ...
grouped      frame 1, frame 2, ..., annotation 1, annotation 2, ...
The generative order puts annotations first: "grouped" is then masks to frames, 8 + 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws
from lvmlite.data.sentences.base import Clips, Columns, SentenceType, Share, by_source, kinds_of
from lvmlite.data.sentences.pairs import BOTH, Order
from lvmlite.data.sentences.video import STRIDES, Sampler, Sampling, Stride, by_step, check_named
from lvmlite.data.store import Shard
from lvmlite.recipe import Range

Layout = Literal["interleaved", "grouped"]


@dataclass
class AnnotatedVideoConfig:
    """One type for each source, kind, layout and order.

    Attributes:
        frames: of a sentence, each with its annotation: 8 make 16 pictures.
        layouts, orders: see the top of this file; "generative" + "grouped" is masks to frames.
        sampling, strides: as in `VideoConfig`.
    """

    sentence: Literal["annotated_video"] = "annotated_video"
    share: Share = 1.0
    sources: list[str] | None = None
    kinds: list[str] | None = None
    frames: Annotated[int, Range(2)] = 8
    layouts: list[Layout] = field(default_factory=lambda: ["interleaved", "grouped"])
    orders: list[Order] = field(default_factory=lambda: list(BOTH))
    sampling: Sampling = "strides"
    strides: list[Stride] = field(default_factory=lambda: list(STRIDES))

    def __post_init__(self) -> None:
        check_named(self.strides)


class AnnotatedVideo(SentenceType):
    """Items are clips that have the kind: one sentence a clip and epoch."""

    def __init__(
        self,
        config: AnnotatedVideoConfig,
        shards: Sequence[Shard],
        columns: Columns,
        source: str,
        kind: str,
        layout: Layout,
        order: Order,
    ):
        n = config.frames
        self.name, self.items_per_sentence, self.n_pictures = f"{layout}/{order}/{source}/{kind}", 1, 2 * n
        self.names = [(IMAGE, 0), (kind, 0)] if order == "discriminative" else [(kind, 0), (IMAGE, 0)]
        self.interleaved = layout == "interleaved"
        first, second = ([name] * n for name, _ in self.names)
        self.kinds = [name for pair in zip(first, second) for name in pair] if self.interleaved else first + second
        self.clips, self.sampler = Clips(shards, columns, self.names, n), Sampler(n, config, shards)
        self.n_items = len(self.clips)
        self.left_out = {f"fewer than {n} frames": self.clips.too_short} if self.clips.too_short else {}

    @classmethod
    def expand(cls, config: AnnotatedVideoConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        types: list[SentenceType] = []
        groups = [(source, some) for source, mine in by_source(shards).items() for some in by_step(mine).values()]
        for source, mine in groups:
            for kind in kinds_of(mine, config.kinds):
                having = [shard for shard in mine if kind in shard.info.columns]
                types += [
                    cls(config, having, columns, source, kind, layout, order)
                    for layout in dict.fromkeys(config.layouts)
                    for order in dict.fromkeys(config.orders)
                ]
        return [t for t in types if t.n_items]

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        clip = items[:, 0]
        rows = self.clips.start[clip][:, None] + self.sampler.offsets(self.clips.length[clip], draws)  # (n, frames)
        columns = np.stack([self.clips.columns[name][clip] for name in self.names], axis=1)  # (n, 2)
        if self.interleaved:
            return np.tile(columns, rows.shape[1]), np.repeat(rows, 2, axis=1)
        return np.repeat(columns, rows.shape[1], axis=1), np.tile(rows, 2)
