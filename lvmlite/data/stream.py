"""The stream: batch i of a run as a pure function of (recipe, seed, i).

In: token stores, a split, a mix of sentences, a context length. Out: `Batch`es; no iterator, no state, no files.

Slot s = i * B + b. (1) Its sentence type: a cycle of 1,000 slots filled by largest remainder from the token shares,
shuffled by (seed, cycle). (2) The j-th use of a type reads positions j*m .. j*m+m-1 of a keyed bijection over the
type's items, re-keyed each epoch. (3) Every other draw is counter-based on (seed, type, j). Ranks slice b.
Legend: B slots a batch, T positions a slot, S tokens a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.keyed import Draws, key_of, mix, permute
from lvmlite.data.sentences import SENTENCES, Columns, SentenceType, sentence_configs
from lvmlite.data.store import Store, check_codes
from lvmlite.recipe import Range, one_of

CYCLE = 1000
IGNORE = -100


@dataclass
class StreamConfig:
    """What a stage reads.

    Attributes:
        sentences: the mix; each entry names its type under `sentence` and its token `share`.
        pictures: context length in pictures: T = pictures * tokens per picture (16 of 256 are 4096).
        bos: "sentence" puts BOS before every sentence, in the place of an input, so that n codes take n positions;
            "none" predicts z2 .. zn only, as the papers' formula has it.
        eos: end every sentence with EOS, one more position.
        mode: "sentences" keeps attention inside a sentence; "lvm" is the released LVM's unbroken string of codes,
            no BOS, no mask.
    """

    sentences: list[Any] = field(default_factory=list, metadata=one_of("sentence", sentence_configs))
    pictures: Annotated[int, Range(1)] = 1
    bos: Literal["sentence", "none"] = "sentence"
    eos: bool = False
    mode: Literal["sentences", "lvm"] = "sentences"

    def __post_init__(self) -> None:
        if not self.sentences:
            raise ValueError("sentences is empty: name at least one, e.g. [{sentence: single}]")
        if sum(entry.share for entry in self.sentences) <= 0:
            raise ValueError("the shares of the sentences sum to nothing")
        if self.mode == "lvm" and self.eos:
            raise ValueError("mode lvm is an unbroken string of codes: eos must be false")


@dataclass
class Batch:
    """B slots of T positions.

    Attributes:
        inputs, targets: (B, T) int64; -100 in targets where there is no loss.
        document: (B, T) int32; equal numbers are one sentence, -1 is padding.
        type: (B,) int32, index into `Stream.types`.
        packed: some slot holds several sentences, so attention needs the documents.
    """

    inputs: np.ndarray
    targets: np.ndarray
    document: np.ndarray
    type: np.ndarray
    packed: bool


@dataclass
class Slots:
    """The sentences of one type in a batch.

    Attributes:
        type: index into `Stream.types`. mine: (m,) their slots.
        columns, rows: (sentences, pictures) cells, the sentences of a slot one after the other.
    """

    type: int
    mine: np.ndarray
    columns: np.ndarray
    rows: np.ndarray


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


class Stream(Mix):
    """Draws token batches from one split of token stores.

    Args:
        stores: of equal code fingerprint.
        config: the mix and the context; the rest as in `Mix`.

    Raises:
        ValueError: a type has no items here, a sentence does not fit the context, the stores do not match.
    """

    def __init__(self, stores: Sequence[Store], split: str, config: StreamConfig, seed: int, batch_size: int):
        check_stores(stores, "tokens")
        super().__init__(stores, split, config.sentences, seed, batch_size)
        self.config = config
        self.tokens_per_picture = stores[0].n_tokens
        assert stores[0].info.codebook_size is not None
        self.bos, self.eos = stores[0].info.codebook_size, stores[0].info.codebook_size + 1
        self.context = config.pictures * self.tokens_per_picture
        self.length = [t.n_pictures * self.tokens_per_picture + config.eos for t in self.types]
        for t, n in zip(self.types, self.length):
            if n > self.context:
                raise ValueError(f"a sentence '{t.name}' takes {n} positions, the context is {self.context}")
        self.per_slot = [self.context // n for n in self.length]
        self.fill([n * k for n, k in zip(self.length, self.per_slot)])
        several = any(k > 1 for k, count in zip(self.per_slot, self.counts) if count)
        self.packed = config.mode == "sentences" and several

    @property
    def padding(self) -> float:
        """The share of positions that no sentence fills, on average over a cycle."""
        filled = [n * k / self.context for n, k in zip(self.length, self.per_slot)]
        return 1 - float(np.dot(filled, self.counts)) / CYCLE

    @property
    def n_pictures(self) -> int:
        """Pictures of a batch, on average over a cycle."""
        per_slot = [k * t.n_pictures for k, t in zip(self.per_slot, self.types)]
        return round(self.batch_size * float(np.dot(per_slot, self.counts)) / CYCLE)

    def sentences(self, index: int, rank: int = 0, world_size: int = 1) -> tuple[np.ndarray, list[Slots]]:
        """The cells of batch `index`, or of the slice of it that a rank reads.

        Returns:
            (B,) the type of each slot, and the sentences by type.

        Raises:
            ValueError: batch_size is not a multiple of world_size.
        """
        first, each = self.rank_slots(index, rank, world_size)
        kind, use = self.slots(first, first + each)
        groups = []
        for t in np.flatnonzero(np.bincount(kind)).tolist():
            mine = np.flatnonzero(kind == t)
            numbers = use[mine][:, None] * self.per_slot[t] + np.arange(self.per_slot[t])
            groups.append(Slots(t, mine, *self.cells(t, numbers.ravel())))
        return kind, groups

    def codes(self, index: int, rank: int = 0, world_size: int = 1) -> np.ndarray:
        """The codes of a batch as stored, without BOS and EOS: (B, context) uint16 or uint32, padded with 0."""
        kind, groups = self.sentences(index, rank, world_size)
        cells = np.full((2, len(kind), self.config.pictures), -1)
        for slots in groups:
            for grid, some in zip(cells, (slots.columns, slots.rows)):
                some = some.reshape(len(slots.mine), -1)
                grid[slots.mine, : some.shape[1]] = some
        columns, rows = cells
        full = columns >= 0
        if full.all():
            return self.columns.gather(columns, rows).reshape(len(kind), -1)
        found = self.columns.gather(columns[full], rows[full])
        out = np.zeros((*columns.shape, self.tokens_per_picture), found.dtype)
        out[full] = found
        return out.reshape(len(kind), -1)

    def batch(self, index: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Batch `index`, or the slice of it that a rank reads.

        Raises:
            ValueError: batch_size is not a multiple of world_size.
        """
        kind, groups = self.sentences(index, rank, world_size)
        codes = self.columns.gather(
            *(np.concatenate([getattr(g, n).ravel() for g in groups]) for n in ("columns", "rows"))
        )
        check_codes(codes, self.bos, "a batch")
        inputs = np.full((len(kind), self.context), self.bos, np.int64)
        targets = np.full((len(kind), self.context), IGNORE, np.int64)
        document = np.full((len(kind), self.context), -1, np.int32)
        for slots in groups:
            k, n, mine = self.per_slot[slots.type], self.length[slots.type], slots.mine
            some, codes = np.split(codes, [slots.columns.size])
            given, wanted = self.positions(some.reshape(len(slots.columns), -1).astype(np.int64))
            rows = slice(0, k * n)
            inputs[mine, rows] = given.reshape(len(mine), -1)
            targets[mine, rows] = wanted.reshape(len(mine), -1)
            document[mine, rows] = np.repeat(np.arange(k, dtype=np.int32), n)
        if self.config.mode == "lvm":
            targets[:, :-1] = np.where(targets[:, :-1] >= 0, inputs[:, 1:], IGNORE)
            targets[:, -1] = IGNORE
            ends = (document[:, 1:] == -1) & (document[:, :-1] >= 0)
            targets[:, :-1][ends] = IGNORE
            document = np.where(document >= 0, 0, document).astype(np.int32)
        return Batch(inputs, targets, document, kind.astype(np.int32), self.packed)

    def positions(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of sentences (n, length of codes), each (n, positions of a sentence)."""
        n = len(codes)
        if self.config.mode == "lvm":
            return codes, codes
        eos = [np.full((n, 1), self.eos)] if self.config.eos else []
        if self.config.bos == "sentence":
            given = np.concatenate([np.full((n, 1), self.bos), codes], axis=1)
            given = given if eos else given[:, :-1]
            return given, np.concatenate([codes, *eos], axis=1)
        string = np.concatenate([codes, *eos], axis=1)
        wanted = np.concatenate([string[:, 1:], np.full((n, 1), IGNORE)], axis=1)
        return string, wanted


class PixelStream(Mix):
    """Draws batches of pictures for the tokenizer from pixel stores, by the same contract.

    Args:
        stores: of pictures of one size; sentences: of one picture each; the rest as in `Mix`.

    Raises:
        ValueError: a type finds nothing to read or has several pictures, the stores do not match.
    """

    def __init__(self, stores: Sequence[Store], split: str, sentences: Sequence[Any], seed: int, batch_size: int):
        check_stores(stores, "pixels")
        super().__init__(stores, split, sentences, seed, batch_size)
        for t in self.types:
            if t.n_pictures != 1:
                raise ValueError(f"sentence '{t.name}' has {t.n_pictures} pictures, here one at a time is read: single")
        self.fill([1.0] * len(self.types))

    def batch(self, index: int, rank: int = 0, world_size: int = 1) -> np.ndarray:
        """Pictures of batch `index`, or a rank's slice of it: (B, H, W, 3) uint8.

        Raises:
            ValueError: batch_size is not a multiple of world_size.
        """
        first, each = self.rank_slots(index, rank, world_size)
        kind, use = self.slots(first, first + each)
        columns, rows = np.empty(each, np.int64), np.empty(each, np.int64)
        for t in np.unique(kind):
            mine = kind == t
            column, row = self.cells(t, use[mine])
            columns[mine], rows[mine] = column[:, 0], row[:, 0]
        return self.columns.gather(columns, rows)


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to the shares that sum to `total`; ties go to the earlier entry."""
    weights = np.asarray(shares, np.float64) / np.sum(shares)
    exact = weights * total
    counts = np.floor(exact).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return [int(c) for c in counts]


def check_stores(stores: Sequence[Store], content: str) -> None:
    """Raises ValueError unless the stores hold this content and can be mixed."""
    if not stores:
        raise ValueError("no store to read")
    first = stores[0]
    for i, store in enumerate(stores):
        if store.info.content != content:
            raise ValueError(f"{store.path}: holds {store.info.content}, {content} are needed")
        if store.path.resolve() in (other.path.resolve() for other in stores[:i]):
            raise ValueError(f"{store.path}: named twice; each store is read once")
        if store.info.geometry["size"] != first.info.geometry["size"]:
            sizes = [f"{s.path} holds {s.info.geometry['size']} px" for s in (first, store)]
            raise ValueError(f"stores of one size can be mixed: {', '.join(sizes)}")
        if content == "tokens" and store.info.code_fingerprint != first.info.code_fingerprint:
            raise ValueError(
                f"{store.path}: its tokens were written by another tokenizer ({store.info.code_fingerprint}) than "
                f"those of {first.path} ({first.info.code_fingerprint}); build both with one tokenizer"
            )
        assert store.info.grid == first.info.grid, "one tokenizer, one size, two grids"


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
