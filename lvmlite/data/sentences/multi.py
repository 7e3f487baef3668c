"""Several annotations of a photo: LVM's tuples (section 3.1): of 1 + k pictures m are drawn, in a drawn order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws, key_of, mix
from lvmlite.data.sentences.base import Columns, Frames, SentenceType, Share, by_source, kinds_of
from lvmlite.data.store import Shard
from lvmlite.recipe import Range


@dataclass
class MultiConfig:
    """Tuples of the photo and its annotations, one photo after the other: [seg, photo, depth] * 5.

    Attributes:
        kinds: the k annotations; default: all. A frame that lacks one is left out, and counted.
        sizes: m, of the tuples; one type each; default: 2 .. 1 + k. Which m, and in which order, is drawn per sentence.
        pictures: at most so many in a sentence: as many whole tuples as fit.
    """

    sentence: Literal["multi"] = "multi"
    share: Share = 1.0
    sources: list[str] | None = None
    kinds: list[str] | None = None
    sizes: list[Annotated[int, Range(1)]] | None = None
    pictures: Annotated[int, Range(2)] = 16


class Multi(SentenceType):
    """Items are frames that have all the kinds: each once per epoch."""

    def __init__(
        self,
        shards: Sequence[Shard],
        columns: Columns,
        source: str,
        kinds: list[str],
        m: int,
        pictures: int,
        lacking: int = 0,
    ):
        self.name, self.m = f"multi/{source}/{m} of {1 + len(kinds)}", m
        self.items_per_sentence = pictures // m
        self.n_pictures = m * self.items_per_sentence
        self.kinds = ["any"] * self.n_pictures
        names = [(kind, 0) for kind in (IMAGE, *kinds)]
        self.frames = Frames(shards, columns, names)
        self.n_items = self.frames.n
        self.columns = np.stack([self.frames.columns[name] for name in names])  # (1 + k, shards)
        self.left_out = {"frames that lack a kind": lacking} if lacking else {}

    @classmethod
    def expand(cls, config: MultiConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        types: list[SentenceType] = []
        for source, mine in by_source(shards).items():
            kinds = kinds_of(mine, config.kinds)
            having = [shard for shard in mine if set(kinds) <= set(shard.info.columns)]
            lacking = sum(shard.info.n_frames for shard in mine) - sum(shard.info.n_frames for shard in having)
            most = min(1 + len(kinds), config.pictures)
            sizes = range(2, most + 1) if config.sizes is None else dict.fromkeys(config.sizes)
            if kinds and having:
                types += [cls(having, columns, source, kinds, m, config.pictures, lacking) for m in sizes if m <= most]
        return types

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        shard, row = self.frames.locate(items)  # (n, tuples)
        key = mix(draws.sentences.astype(np.uint64) ^ np.uint64(key_of(draws.key, "order")))
        noise = mix(key[:, None] ^ mix(np.arange(len(self.columns), dtype=np.uint64)))
        chosen = np.argsort(noise, axis=1, kind="stable")[:, : self.m]  # (n, m)
        columns = self.columns[chosen[:, None, :], shard[:, :, None]]
        return columns.reshape(len(items), -1), np.repeat(row, self.m, axis=1)
