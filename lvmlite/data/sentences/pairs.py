"""Photo-annotation pairs of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws
from lvmlite.data.sentences.base import Columns, Frames, SentenceType, Share, by_source, kinds_of
from lvmlite.data.store import Shard
from lvmlite.recipe import Range

Order = Literal["discriminative", "generative"]  # photo first, or annotation first
BOTH: tuple[Order, ...] = ("discriminative", "generative")


@dataclass
class PairsConfig:
    """Photo-annotation pairs of one kind: [photo, annotation] * n (discriminative) or the other way (generative).

    Attributes:
        kinds: default: all but "image".
        orders: which of the two.
        pairs: pairs in a sentence (paper: 8).
        variants: "canonical" reads variant 0; "per-sentence" draws one of the others, which all pairs of a sentence
            share: a palette; "any-per-sentence" draws among all: which point is marked.
    """

    sentence: Literal["pairs"] = "pairs"
    share: Share = 1.0
    sources: list[str] | None = None
    kinds: list[str] | None = None
    orders: list[Order] = field(default_factory=lambda: list(BOTH))
    pairs: Annotated[int, Range(1)] = 8
    variants: Literal["canonical", "per-sentence", "any-per-sentence"] = "canonical"


class Pairs(SentenceType):
    """Items are frames that have the kind: each pair once per epoch."""

    def __init__(
        self,
        config: PairsConfig,
        shards: Sequence[Shard],
        columns: Columns,
        source: str,
        kind: str,
        order: str,
    ):
        self.name = f"{order}/{source}/{kind}"
        self.items_per_sentence, self.n_pictures = config.pairs, 2 * config.pairs
        self.photo_first = order == "discriminative"
        self.kinds = ([IMAGE, kind] if self.photo_first else [kind, IMAGE]) * config.pairs
        n = min(shard.info.columns[kind] for shard in shards)
        first = 1 if config.variants == "per-sentence" and n > 1 else 0
        self.variants = range(first, 1 if config.variants == "canonical" else n)
        names = [(kind, v) for v in self.variants]
        self.frames = Frames(shards, columns, [(IMAGE, 0), *names])
        self.n_items = self.frames.n
        self.photo = self.frames.columns[IMAGE, 0]
        self.annotation = np.stack([self.frames.columns[name] for name in names])  # (variants, shards)

    @classmethod
    def expand(cls, config: PairsConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        types: list[SentenceType] = []
        for source, mine in by_source(shards).items():
            for kind in kinds_of(mine, config.kinds):
                having = [shard for shard in mine if kind in shard.info.columns]
                types += [cls(config, having, columns, source, kind, order) for order in dict.fromkeys(config.orders)]
        return types

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        shard, row = self.frames.locate(items)  # (n, pairs)
        photo, annotation = self.photo[shard], self.annotation[0, shard]
        if len(self.variants) > 1:
            variant = draws.integers("variant", np.full(len(items), len(self.variants)))
            annotation = self.annotation[variant[:, None], shard]
        pair = (photo, annotation) if self.photo_first else (annotation, photo)
        return np.stack(pair, axis=2).reshape(len(items), -1), np.repeat(row, 2, axis=1)
