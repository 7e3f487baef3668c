"""What every sentence type offers: items, and for many sentences at once the cells they read. And the columns of cells.

In: the shards of one split. Out: (column, row) of every picture.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws
from lvmlite.data.store import Shard
from lvmlite.recipe import Range

MAX_OPEN = 256  # columns of a stream; the usual limit is 1024 open files a process
RESIDENT = 2**32  # bytes of the store that stay mapped into the process; mapping a page anew costs 2.5 us
FAULT_AROUND = 2**16  # bytes that Linux maps when a row of them is read
Share = Annotated[float, Range(0)]


class Columns:
    """Every memory-mapped column that a stream reads, numbered, so that cells are two integers.

    A store may have more columns than a process may have files open: the last MAX_OPEN read are kept open. It may be
    larger than memory: what is mapped is let go from time to time, so that resident memory stays flat; the kernel's
    page cache keeps the pages.
    """

    def __init__(self) -> None:
        self.names: list[tuple[Shard, str, int]] = []
        self._ids: dict[tuple[str, str, int], int] = {}
        self._open: dict[int, np.ndarray] = {}  # the last read last
        self._mapped = 0  # bytes at most, since the last `release`

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
        """The rows of cells: columns, rows (...) int -> (..., *row shape), one take per column used."""
        flat_columns, flat_rows = columns.ravel(), rows.ravel()
        first = self.array(int(flat_columns[0]))
        if (flat_columns == flat_columns[0]).all():
            out = np.take(first, flat_rows, axis=0)
        else:
            small = flat_columns.astype(np.int16) if len(self.names) < 2**15 else flat_columns
            order = np.argsort(small, kind="stable")  # of 16 bits: by radix
            sorted_columns, sorted_rows = flat_columns[order], flat_rows[order]
            cuts = [0, *(np.flatnonzero(np.diff(sorted_columns)) + 1).tolist(), len(order)]
            out = np.empty((len(order), *first.shape[1:]), first.dtype)
            whole = _rows(out)
            for a, b in pairwise(cuts):
                whole[order[a:b]] = np.take(_rows(self.array(int(sorted_columns[a]))), sorted_rows[a:b])
        self._mapped += len(flat_rows) * max(FAULT_AROUND, first[:1].nbytes)
        if self._mapped > RESIDENT:
            self.release()
        return out.reshape(*columns.shape, *first.shape[1:])

    def release(self) -> None:
        """Unmap the pages read so far, if all that is open is more than may stay mapped."""
        self._mapped = 0
        if sum(array.nbytes for array in self._open.values()) <= RESIDENT:
            return
        for array in self._open.values():
            mapped: Any = array
            while isinstance(mapped, np.ndarray):
                mapped = mapped.base
            if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)


def _rows(array: np.ndarray) -> np.ndarray:
    """Rows (n, ...) of a contiguous array as n opaque elements: copied faster than as rows of numbers."""
    return array.reshape(len(array), -1).view(f"V{array[:1].nbytes}")[:, 0]


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


class Clips:
    """Samples of several frames as one range of items.

    Attributes:
        start, length: (n,) first row and number of frames. columns[name]: (n,) the column of each clip.
        too_short: samples of several frames that were left out; single pictures are not counted.
    """

    def __init__(self, shards: Sequence[Shard], columns: Columns, names: Sequence[tuple[str, int]], min_frames: int):
        starts, lengths, counts, used = [], [], [], []
        self.too_short = 0
        for shard in shards:
            each = shard.info.frames_per_sample
            if shard.info.n_frames == 0 or (each is not None and each < min_frames):
                self.too_short += shard.info.n_samples * (each is not None and each > 1)
                continue
            samples = shard.samples()
            enough = samples[:, 1] >= min_frames
            self.too_short += int(((samples[:, 1] > 1) & ~enough).sum())
            starts.append(samples[enough, 0])
            lengths.append(samples[enough, 1])
            counts.append(int(enough.sum()))
            used.append(shard)
        empty = [np.zeros(0, np.int64)]
        self.start, self.length = np.concatenate(starts or empty), np.concatenate(lengths or empty)
        self.columns = {
            name: np.repeat(np.array([columns.add(shard, *name) for shard in used], np.int64), counts) for name in names
        }

    def __len__(self) -> int:
        return len(self.start)


class SentenceType(ABC):
    """One expanded type.

    Attributes:
        name: unique in a stream; written to logs.
        n_items: items of an epoch; items_per_sentence: how many one sentence uses.
        n_pictures: pictures in a sentence.
        kinds: what stands at each picture, for labels and reports.
        left_out: reason -> number of samples that cannot be read by this type.
    """

    name: str
    n_items: int
    items_per_sentence: int
    n_pictures: int
    kinds: list[str]
    left_out: dict[str, int] = {}  # noqa: RUF012 - replaced, never changed

    @abstractmethod
    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Items (n, items_per_sentence) -> columns and rows, each (n, n_pictures). `draws` is for these n sentences."""


def kinds_of(shards: Sequence[Shard], wanted: Sequence[str] | None) -> list[str]:
    """The kinds but "image" that some of the shards have, by name; or those wanted that are there, as wanted."""
    present = sorted({kind for shard in shards for kind in shard.info.columns if kind != IMAGE})
    return present if wanted is None else [kind for kind in dict.fromkeys(wanted) if kind in present]


def by_source(shards: Sequence[Shard]) -> dict[str, list[Shard]]:
    """The shards of each source, sources by name."""
    names = sorted({shard.info.source for shard in shards})
    return {name: [shard for shard in shards if shard.info.source == name] for name in names}
