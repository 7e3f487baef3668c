"""Samples read as they are stored: sentences that another system wrote, brought in by `lvmlite data import`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws
from lvmlite.data.sentences.base import Clips, Columns, SentenceType, Share
from lvmlite.data.store import Shard
from lvmlite.recipe import Range


@dataclass
class WholeConfig:
    """All pictures of a sample, in order.

    Attributes:
        pictures: samples of more are left out, and counted: they do not fit the context.
    """

    sentence: Literal["whole"] = "whole"
    share: Share = 1.0
    sources: list[str] | None = None
    pictures: Annotated[int, Range(1)] = 16


class Whole(SentenceType):
    """Items are samples of one length: each once per epoch. One type for each length found."""

    def __init__(self, clips: Clips, length: int, left_out: dict[str, int]):
        self.name, self.items_per_sentence, self.n_pictures = f"whole/{length}", 1, length
        self.kinds = [IMAGE] * length
        mine = clips.length == length
        self.start, self.column = clips.start[mine], clips.columns[IMAGE, 0][mine]
        self.n_items, self.left_out = len(self.start), left_out

    @classmethod
    def expand(cls, config: WholeConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        clips = Clips(shards, columns, [(IMAGE, 0)], 1)
        long = int((clips.length > config.pictures).sum())
        left_out: dict[str, int] = {f"more than {config.pictures} pictures": long} if long else {}
        lengths = [int(n) for n in np.unique(clips.length) if n <= config.pictures]
        return [cls(clips, n, left_out if i == 0 else {}) for i, n in enumerate(lengths)]

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        item = items[:, 0]
        rows = self.start[item][:, None] + np.arange(self.n_pictures)
        return np.broadcast_to(self.column[item][:, None], rows.shape), rows
