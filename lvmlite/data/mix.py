"""The mix: which sentence each slot of each batch is, and which items it reads, as a pure function of (seed, slot).

In: token or pixel stores, sentences with their shares. Out: types and items, by number; `stream.py` reads the cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lvmlite.data.keyed import Draws, key_of, mix, permute
from lvmlite.data.sentences import SENTENCES, Columns, SentenceType
from lvmlite.data.store import Store

CYCLE = 1000


def expand(entry: Any, stores: Sequence[Store], split: str, columns: Columns) -> list[SentenceType]:
    """The types of one entry of a mix that find something to read."""
    shards = [shard for store in stores for shard in store.select(split, entry.sources)]
    types = SENTENCES[entry.sentence][1].expand(entry, shards, columns) if shards else []
    return [t for t in types if t.n_items]


def readable(sentences: Sequence[Any], stores: Sequence[Store], split: str) -> list[Any]:
    """The entries of a mix that find something in a split: a dozen photos may leave "val" without any."""
    return [entry for entry in sentences if entry.share and expand(entry, stores, split, Columns())]


class Mix:
    """Which cells each slot of each batch reads: the part of the stream that does not care what the cells hold.

    Args:
        stores: read together; split: "train", "val" or "test".
        sentences: configs of SENTENCES, each with its share.
        seed: of the run; batch_size: B, slots of a global batch.

    Raises:
        ValueError: a type finds nothing to read.
    """

    def __init__(self, stores: Sequence[Store], split: str, sentences: Sequence[Any], seed: int, batch_size: int):
        self.seed, self.batch_size = seed, batch_size
        self.columns = Columns()
        self.types: list[SentenceType] = []
        self.shares: list[float] = []
        for entry in sentences:
            if not entry.share:
                continue
            check_names(entry, stores)
            types = expand(entry, stores, split, self.columns)
            if not types:
                places = ", ".join(str(store.path) for store in stores)
                raise ValueError(
                    f"sentence '{entry.sentence}' finds nothing to read in the {split} split of {places}"
                    f"{f' from {entry.sources}' if entry.sources else ''}; check sources, kinds and clip lengths"
                )
            self.types += types
            self.shares += [entry.share / len(types)] * len(types)
        if not self.types:
            raise ValueError("no sentences to read: name at least one with a share above 0, e.g. {sentence: single}")
        self.keys = [key_of(seed, split, t.name, i) for i, t in enumerate(self.types)]
        for i, name in enumerate([t.name for t in self.types]):  # two entries of one type
            if name in (t.name for t in self.types[:i]):
                self.types[i].name = f"{name} ({i})"
        self.counts: list[int] = []
        self._cycles: tuple[int, int, np.ndarray, np.ndarray] | None = None  # the last ones used

    def fill(self, useful: Sequence[float]) -> None:
        """Set how many slots of a cycle each type gets, when a slot of it holds `useful` tokens.

        Raises:
            ValueError: a share so small that it gets none.
        """
        self.counts, self._cycles = largest_remainder([share / n for share, n in zip(self.shares, useful)], CYCLE), None
        for t, count in zip(self.types, self.counts):
            if not count:
                raise ValueError(f"sentence '{t.name}' gets none of {CYCLE:,} slots: raise its share, or leave it out")

    def cycles(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Of cycles first .. last-1 the type of each slot, and how many slots of its type stand before it in the cycle:
        (cycles, CYCLE) int64 each."""
        if len(self.counts) == 1:
            shape = (last - first, CYCLE)
            return np.zeros(shape, np.int64), np.broadcast_to(np.arange(CYCLE), shape)
        keys = np.array([key_of(self.seed, "cycle", number) for number in range(first, last)], np.uint64)
        with np.errstate(over="ignore"):
            noise = mix(np.arange(CYCLE, dtype=np.uint64) ^ keys[:, None])
        counts = np.asarray(self.counts)
        order = np.repeat(np.arange(len(counts)), counts)[np.argsort(noise, axis=1, kind="stable")]
        place = np.argsort(order, axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, place, np.arange(CYCLE) - np.repeat(np.cumsum(counts) - counts, counts), axis=1)
        return order, rank

    def slots(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Types and uses of slots first .. last-1: (n,) type, and (n,) j, the how-manieth use of the type."""
        begin, end = first // CYCLE, (last - 1) // CYCLE + 1
        if self._cycles is None or self._cycles[:2] != (begin, end):  # a small batch stays in its cycle for long
            self._cycles = (begin, end, *self.cycles(begin, end))
        order, rank = (x.ravel()[first - begin * CYCLE : last - begin * CYCLE] for x in self._cycles[2:])
        return order, np.arange(first, last) // CYCLE * np.asarray(self.counts)[order] + rank

    def items(self, t: int, sentences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The items of sentences (n,) of type t, and their epochs, (n, m) each: positions of each epoch's shuffle."""
        kind = self.types[t]
        m = kind.items_per_sentence
        position = (sentences[:, None] * m + np.arange(m)).ravel()
        epoch, place = np.divmod(position, kind.n_items)
        with np.errstate(over="ignore"):
            keys = mix(epoch.astype(np.uint64) ^ np.uint64(self.keys[t]))
        return permute(keys, place, kind.n_items).reshape(-1, m), epoch.reshape(-1, m)

    def cells(self, t: int, sentences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows of sentences (n,) of type t, each (n, pictures)."""
        items, epochs = self.items(t, sentences)
        return self.types[t].cells(items, Draws(self.keys[t], sentences, epochs))

    def rank_slots(self, index: int, rank: int, world_size: int) -> tuple[int, int]:
        """The first slot of a rank's slice of batch `index`, and how many it reads."""
        assert index >= 0
        assert 0 <= rank < world_size
        if self.batch_size % world_size:
            raise ValueError(f"a global batch of {self.batch_size} does not split over {world_size} ranks")
        each = self.batch_size // world_size
        return index * self.batch_size + rank * each, each


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to the shares that sum to `total`; ties go to the earlier entry."""
    weights = np.asarray(shares, np.float64) / np.sum(shares)
    exact = weights * total
    counts = np.floor(exact).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return [int(c) for c in counts]


def check_names(entry: Any, stores: Sequence[Store]) -> None:
    """Raises ValueError if a sentence names a source or a kind that no split of the stores has."""
    infos = [shard.info for store in stores for shard in store.shards]
    known = {
        "source": {name for store in stores for name in store.info.sources},
        "kind": {kind for info in infos for kind in info.columns},
    }
    for what, there in known.items():
        for name in getattr(entry, f"{what}s", None) or []:
            if name not in there:
                have = ", ".join(sorted(there))
                raise ValueError(f"sentence '{entry.sentence}': no {what} '{name}' in the store; there are {have}")
