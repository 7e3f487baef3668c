"""Sentences of unrelated pictures: `single`, stage 1 of LVM-Lite, and `random`, the baseline it beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws
from lvmlite.data.sentences.base import Columns, Frames, SentenceType, Share
from lvmlite.data.store import Shard
from lvmlite.recipe import Range


@dataclass
class SingleConfig:
    """One picture: stage 1 of LVM-Lite. `kinds` beside "image" make annotations pictures of their own right."""

    sentence: Literal["single"] = "single"
    share: Share = 1.0
    sources: list[str] | None = None
    kinds: list[str] = field(default_factory=lambda: [IMAGE])


class Single(SentenceType):
    """Items are pictures: each is seen once per epoch."""

    def __init__(self, config: SingleConfig, shards: Sequence[Shard], columns: Columns, name: str = "single"):
        pools = []
        for kind in dict.fromkeys(config.kinds):
            having = [shard for shard in shards if kind in shard.info.columns]
            if having:
                pools.append(Frames(having, columns, [(kind, 0)]))
        self.name, self.pools = name, pools
        self.ends = np.cumsum([pool.n for pool in pools])
        self.n_items = int(self.ends[-1]) if pools else 0
        self.items_per_sentence = self.n_pictures = 1
        self.kinds = [config.kinds[0] if len(config.kinds) == 1 else "any"]

    @classmethod
    def expand(cls, config: SingleConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        return [cls(config, shards, columns)]

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        column, row = np.empty(items.shape, np.int64), np.empty(items.shape, np.int64)
        which = np.searchsorted(self.ends, items, side="right")
        for p, pool in enumerate(self.pools):
            mine = which == p
            shard, rows = pool.locate(items[mine] - (self.ends[p] - pool.n))
            (ids,) = pool.columns.values()
            column[mine], row[mine] = ids[shard], rows
        return column, row


@dataclass
class RandomConfig:
    """Unrelated pictures in a row: the baseline that LVM-Lite beats (16 pictures, context 4096)."""

    sentence: Literal["random"] = "random"
    share: Share = 1.0
    sources: list[str] | None = None
    kinds: list[str] = field(default_factory=lambda: [IMAGE])
    pictures: Annotated[int, Range(1)] = 16


class Random(Single):
    """`pictures` consecutive positions of a shuffle such as `single` reads: each picture once per epoch."""

    def __init__(self, config: RandomConfig, shards: Sequence[Shard], columns: Columns):
        single = SingleConfig(sources=config.sources, kinds=config.kinds)
        super().__init__(single, shards, columns, name="random")
        self.items_per_sentence = self.n_pictures = config.pictures
        self.kinds = self.kinds * config.pictures

    @classmethod
    def expand(cls, config: Any, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        return [cls(config, shards, columns)]
