"""Reads sentences of a toy store, as the numbers of their pictures."""

from __future__ import annotations

import numpy as np

from lvmlite.data.keyed import Draws
from lvmlite.data.sentences import SENTENCES, Columns, SentenceType

from ..toys import Made, number_of

SHARDS = [
    ("a", "train", [1] * 5, {"image": 1, "seg": 3, "depth": 1}),
    ("clips", "train", [3, 8, 7, 20], {"image": 1}),
    ("a", "train", [2, 1], {"image": 1, "depth": 1}),
    ("b", "train", [1] * 4, {"image": 1, "seg": 2}),
]


class Reader:
    """The types of a config over a store, and the pictures of their sentences."""

    def __init__(self, made: Made, config: object) -> None:
        self.made, self.columns = made, Columns()
        shards = made.store.select("train", config.sources)  # type: ignore[attr-defined]
        _, kind = SENTENCES[config.sentence]  # type: ignore[attr-defined]
        self.types: list[SentenceType] = kind.expand(config, shards, self.columns)

    def read(self, t: int = 0, n: int = 0, key: int = 0, epoch: int = 0) -> np.ndarray:
        """Numbers of the pictures of n sentences, by default of an epoch without shuffle: (n, pictures)."""
        kind = self.types[t]
        m = kind.items_per_sentence
        n = n or kind.n_items // m
        items = np.arange(n * m).reshape(n, m) % kind.n_items
        return number_of(self.columns.gather(*kind.cells(items, Draws(key, np.arange(n), np.full((n, m), epoch)))))[
            ..., 0
        ]

    def labels(self, t: int = 0) -> list[list[tuple[str, str, int, int]]]:
        return [[self.made.pictures[i] for i in row] for row in self.read(t)]
