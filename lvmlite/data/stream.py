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

from lvmlite.data.mix import CYCLE, Mix
from lvmlite.data.sentences import sentence_configs
from lvmlite.data.store import Store, check_codes
from lvmlite.recipe import Range, one_of

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
    def lengths(self) -> dict[int, float]:
        """How many sentences of each length, in positions that attend to each other, a batch has on average."""
        slots = np.asarray(self.counts) * self.batch_size / CYCLE
        found: dict[int, float] = {}
        for n, k, count in zip(self.length, self.per_slot, slots.tolist()):
            n, k = (n, k) if self.config.mode == "sentences" else (n * k, 1)
            found[n] = found.get(n, 0.0) + k * count
        return found

    def n_targets(self, index: int) -> int:
        """How many positions of batch `index` have a loss, over all ranks; nothing is read for it."""
        lvm, lost = self.config.mode == "lvm", self.config.mode == "sentences" and self.config.bos == "none"
        each = [n * k - (k if lost else lvm) for n, k in zip(self.length, self.per_slot)]
        kind, _ = self.slots(index * self.batch_size, (index + 1) * self.batch_size)
        return int(np.asarray(each)[kind].sum())

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
