"""Visual sentences: paths through grids. Each type says which cells are read, in which order.

In: the shards of one split and a config. Out: for many sentences at once, (column, row) of every picture.

An *item* is what an epoch counts: a frame, a sample, a pair. A sentence type draws `items_per_sentence` of its
`n_items` for each sentence. What else it needs at random it draws from `Draws`, a function of (seed, type, sentence).
`pairs` expands to one type per (source, kind, order). Papers: LVM section 3 and LVM-Lite section 3.2.

Adding a type: a config, a class with `expand` and `cells`, a line in SENTENCES.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws
from lvmlite.data.store import Shard
from lvmlite.recipe import Range

MAX_OPEN = 256  # columns of a stream; the usual limit is 1024 open files a process
Share = Annotated[float, Range(0)]


class Columns:
    """Every memory-mapped column that a stream reads, numbered, so that cells are two integers.

    A store may have more columns than a process may have files open: the last MAX_OPEN read are kept open.
    """

    def __init__(self) -> None:
        self.names: list[tuple[Shard, str, int]] = []
        self._ids: dict[tuple[str, str, int], int] = {}
        self._open: dict[int, np.ndarray] = {}  # the last read last

    def add(self, shard: Shard, kind: str, variant: int = 0) -> int:
        """The number of a column. Raises ValueError if its file is missing or broken."""
        key = (str(shard.folder), kind, variant)
        if key not in self._ids:
            self._ids[key] = len(self.names)
            self.names.append((shard, kind, variant))
            self.array(self._ids[key])
        return self._ids[key]

    def array(self, number: int) -> np.ndarray:
        """A column: (frames, *row shape)."""
        found = self._open.pop(number, None)
        if found is None:
            if len(self._open) >= MAX_OPEN:
                del self._open[next(iter(self._open))]
            shard, kind, variant = self.names[number]
            found = shard.column(kind, variant).view(np.ndarray)  # indexing a memmap makes memmaps: slow
        self._open[number] = found
        return found

    def gather(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The rows of cells: columns, rows (...) int -> (..., *row shape), one fancy index per column used."""
        flat_columns, flat_rows = columns.ravel(), rows.ravel()
        order = np.argsort(flat_columns, kind="stable")
        sorted_columns, sorted_rows = flat_columns[order], flat_rows[order]
        cuts = [0, *(np.flatnonzero(np.diff(sorted_columns)) + 1).tolist(), len(order)]
        first = self.array(int(sorted_columns[0]))
        out = np.empty((len(order), *first.shape[1:]), first.dtype)
        for a, b in pairwise(cuts):
            out[order[a:b]] = self.array(int(sorted_columns[a]))[sorted_rows[a:b]]
        return out.reshape(*columns.shape, *first.shape[1:])


class Frames:
    """Frames of several shards as one range of items. `columns[name]` (shards,) numbers that column of each shard."""

    def __init__(self, shards: Sequence[Shard], columns: Columns, names: Sequence[tuple[str, int]]):
        self.ends = np.cumsum([shard.info.n_frames for shard in shards])
        self.n = int(self.ends[-1]) if len(shards) else 0
        self.columns = {name: np.array([columns.add(shard, *name) for shard in shards]) for name in names}

    def locate(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items (...) -> number of the shard, and row in it."""
        shard = np.searchsorted(self.ends, items, side="right")
        return shard, items - np.where(shard > 0, self.ends[shard - 1], 0)


class SentenceType(ABC):
    """One expanded type.

    Attributes:
        name: unique in a stream; written to logs.
        n_items: items of an epoch; items_per_sentence: how many one sentence uses.
        n_pictures: pictures in a sentence.
        kinds: what stands at each picture, for labels and reports.
    """

    name: str
    n_items: int
    items_per_sentence: int
    n_pictures: int
    kinds: list[str]

    @abstractmethod
    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Items (n, items_per_sentence) -> columns and rows, each (n, n_pictures). `draws` is for these n sentences."""


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
    """`pictures` consecutive positions of the same shuffle that `single` reads: each picture once per epoch."""

    def __init__(self, config: RandomConfig, shards: Sequence[Shard], columns: Columns):
        single = SingleConfig(sources=config.sources, kinds=config.kinds)
        super().__init__(single, shards, columns, name="random")
        self.items_per_sentence = self.n_pictures = config.pictures
        self.kinds = self.kinds * config.pictures

    @classmethod
    def expand(cls, config: Any, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        return [cls(config, shards, columns)]


@dataclass
class VideoConfig:
    """Frames of one clip at a stride drawn from those that fit; the start is drawn too. Strides count kept frames."""

    sentence: Literal["video"] = "video"
    share: Share = 1.0
    sources: list[str] | None = None
    pictures: Annotated[int, Range(2)] = 16
    strides: list[Annotated[int, Range(1)]] = field(default_factory=lambda: [1, 2, 3])

    def __post_init__(self) -> None:
        if not self.strides:
            raise ValueError("strides is empty: name at least one, e.g. [1]")


class Video(SentenceType):
    """Items are clips of at least `pictures` frames: one sentence a clip and epoch."""

    def __init__(self, config: VideoConfig, shards: Sequence[Shard], columns: Columns):
        self.name, self.items_per_sentence, self.n_pictures = "video", 1, config.pictures
        self.kinds = [IMAGE] * config.pictures
        self.strides = np.sort(np.array(config.strides, np.int64))
        need = (config.pictures - 1) * int(self.strides[0]) + 1
        columns_, starts, lengths = [], [], []
        for shard in shards:
            each = shard.info.frames_per_sample
            if shard.info.n_frames == 0 or (each is not None and each < need):
                continue
            samples = shard.samples()
            samples = samples[samples[:, 1] >= need]
            starts.append(samples[:, 0])
            lengths.append(samples[:, 1])
            columns_.append(np.full(len(samples), columns.add(shard, IMAGE), np.int64))
        empty = [np.zeros(0, np.int64)]
        self.column, self.start, self.length = (np.concatenate(x or empty) for x in (columns_, starts, lengths))
        self.n_items = len(self.start)

    @classmethod
    def expand(cls, config: VideoConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        return [cls(config, shards, columns)]

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        clip = items[:, 0]
        span = self.n_pictures - 1
        n_fitting = np.searchsorted(self.strides * span, self.length[clip] - 1, side="right")
        stride = self.strides[draws.integers("stride", n_fitting)]
        start = draws.integers("start", self.length[clip] - span * stride)
        rows = (self.start[clip] + start)[:, None] + stride[:, None] * np.arange(self.n_pictures)
        return np.broadcast_to(self.column[clip][:, None], rows.shape), rows


@dataclass
class PairsConfig:
    """Photo-annotation pairs of one kind: [photo, annotation] * n (discriminative) or the other way (generative).

    Attributes:
        kinds: default: all but "image".
        orders: which of the two.
        pairs: pairs in a sentence (paper: 8).
        variants: "canonical" reads variant 0; "per-sentence" draws one variant that all pairs of a sentence share.
    """

    sentence: Literal["pairs"] = "pairs"
    share: Share = 1.0
    sources: list[str] | None = None
    kinds: list[str] | None = None
    orders: list[Literal["discriminative", "generative"]] = field(
        default_factory=lambda: ["discriminative", "generative"]
    )
    pairs: Annotated[int, Range(1)] = 8
    variants: Literal["canonical", "per-sentence"] = "canonical"


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
        self.variants = range(first, n if config.variants == "per-sentence" else 1)
        names = [(kind, v) for v in self.variants]
        self.frames = Frames(shards, columns, [(IMAGE, 0), *names])
        self.n_items = self.frames.n
        self.photo = self.frames.columns[IMAGE, 0]
        self.annotation = np.stack([self.frames.columns[name] for name in names])  # (variants, shards)

    @classmethod
    def expand(cls, config: PairsConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        types: list[SentenceType] = []
        for source in sorted({shard.info.source for shard in shards}):
            mine = [shard for shard in shards if shard.info.source == source]
            present = sorted({kind for shard in mine for kind in shard.info.columns if kind != IMAGE})
            for kind in present if config.kinds is None else [k for k in dict.fromkeys(config.kinds) if k in present]:
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


SENTENCES: dict[str, tuple[type[Any], type[Any]]] = {
    "single": (SingleConfig, Single),
    "random": (RandomConfig, Random),
    "video": (VideoConfig, Video),
    "pairs": (PairsConfig, Pairs),
}


def sentence_configs() -> dict[str, type[Any]]:
    """The table that recipes are read with."""
    return {name: config for name, (config, _) in SENTENCES.items()}
