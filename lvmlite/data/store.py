"""The store: a folder of memory-mapped columns, the grid time x kind on disk.

In: rows of pictures or tokens. Out: arrays by (shard, kind, variant), opened with `np.load(mmap_mode="r")`.

    store.json             what the columns hold, and one line a shard
    <shard>/<kind>.npy     (frames, S) uint16 tokens, or (frames, H, W, 3) uint8 pixels; row r of all is one frame
    <shard>/<kind>.<v>.npy variant v > 0 of the same frames
    <shard>/samples.npy    (samples, 3) int64: start, n_frames, category (-1 none); absent where it says nothing
    <shard>/keys.jsonl     key and group of every sample, for people and for build
    <shard>/shard.json     the shard's line of store.json, with checksums; written last
    rejects.jsonl          input that gave no sample, and why

A shard is homogeneous: one source, one split, one set of kinds. TokenStore and PixelStore differ only in `content`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

FORMAT = 1


@dataclass
class ShardInfo:
    """One line of store.json.

    Attributes:
        name: its folder; source, split: of all its samples.
        n_frames, n_samples: rows, and grids of rows.
        frames_per_sample: where constant, else None and samples.npy tells.
        columns: kind -> number of variants.
        categories: names that samples.npy counts through.
        checksums: file name -> sha256.
    """

    name: str
    source: str
    split: str
    n_frames: int
    n_samples: int
    frames_per_sample: int | None
    columns: dict[str, int]
    categories: list[str] = field(default_factory=list)
    checksums: dict[str, str] = field(default_factory=dict)


@dataclass
class StoreInfo:
    """store.json.

    Attributes:
        content: "tokens" or "pixels".
        geometry: of `images.Geometry`; every picture was brought to it.
        kinds: resolved config of every kind but "image".
        sources: name -> {"licence": ...}.
        grid, codebook_size, code_fingerprint, encoding: of the tokenizer; None for pixels.
        shards: in a fixed order.
    """

    content: str
    geometry: dict[str, Any]
    kinds: dict[str, Any]
    sources: dict[str, Any]
    grid: list[int] | None = None
    codebook_size: int | None = None
    code_fingerprint: str | None = None
    encoding: dict[str, Any] | None = None
    shards: list[ShardInfo] = field(default_factory=list)
    format: int = FORMAT


class Shard:
    """A shard opened for reading."""

    def __init__(self, folder: Path, info: ShardInfo):
        self.folder = folder
        self.info = info
        self._columns: dict[tuple[str, int], np.ndarray] = {}

    def column(self, kind: str, variant: int = 0) -> np.ndarray:
        """The memory-mapped column: (frames, S) or (frames, H, W, 3). Raises KeyError, ValueError if broken."""
        if variant >= self.info.columns[kind]:
            raise KeyError(f"{self.folder.name} has no variant {variant} of {kind}")
        key = (kind, variant)
        if key not in self._columns:
            path = self.folder / column_file(kind, variant)
            try:
                column = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise ValueError(f"{path}: cannot be read ({error}); build the store again") from None
            if len(column) != self.info.n_frames:
                raise ValueError(
                    f"{path}: {len(column)} rows, shard.json says {self.info.n_frames}; build the store again"
                )
            self._columns[key] = column
        return self._columns[key]

    def samples(self) -> np.ndarray:
        """(samples, 3) int64: start, n_frames, category."""
        each = self.info.frames_per_sample
        if each is None or self.info.categories:
            return np.load(self.folder / "samples.npy", allow_pickle=False)
        start = np.arange(self.info.n_samples, dtype=np.int64) * each
        return np.stack((start, np.full_like(start, each), np.full_like(start, -1)), axis=1)

    def keys(self) -> Iterator[tuple[str, str]]:
        """(key, group) of every sample."""
        with open(self.folder / "keys.jsonl", encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                yield entry["key"], entry["group"]


class Store:
    """A store opened for reading. Use `Store.open`."""

    def __init__(self, path: Path, info: StoreInfo):
        self.path = path
        self.info = info
        self.shards = [Shard(path / shard.name, shard) for shard in info.shards]

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Read store.json; the columns are opened when used.

        Raises:
            ValueError: not a store, of another format version, or unfinished; in one line.
        """
        path = Path(path)
        try:
            raw = json.loads((path / "store.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path}: not a finished store (no store.json); build it first") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path / 'store.json'}: broken ({error}); build the store again") from None
        if raw.get("format") != FORMAT:
            raise ValueError(f"{path}: store format {raw.get('format')}, this version reads {FORMAT}; build it again")
        raw["shards"] = [ShardInfo(**shard) for shard in raw["shards"]]
        return cls(path, StoreInfo(**raw))

    def select(self, split: str, sources: list[str] | None = None) -> list[Shard]:
        """The shards of a split, of all or some sources."""
        return [s for s in self.shards if s.info.split == split and (sources is None or s.info.source in sources)]

    @property
    def n_tokens(self) -> int:
        """Tokens per picture. Raises ValueError for a store of pixels."""
        if self.info.grid is None:
            raise ValueError(f"{self.path}: holds pixels, not tokens")
        return self.info.grid[0] * self.info.grid[1]

    def check_tokenizer(self, code_fingerprint: str) -> None:
        """Raises ValueError if the tokens were written by another tokenizer."""
        if self.info.code_fingerprint != code_fingerprint:
            raise ValueError(
                f"{self.path}: its tokens were written by another tokenizer ({self.info.code_fingerprint}, "
                f"this one is {code_fingerprint}); build the store again with this tokenizer"
            )

    def verify(self) -> list[str]:
        """Every file whose sha256 is not the recorded one, or that is missing; [] if all is well."""
        wrong = []
        for shard in self.shards:
            for name, expected in shard.info.checksums.items():
                file = shard.folder / name
                if not file.exists():
                    wrong.append(f"{shard.info.name}/{name}: missing")
                elif sha256(file) != expected:
                    wrong.append(f"{shard.info.name}/{name}: checksum differs")
        return wrong


def column_file(kind: str, variant: int) -> str:
    return f"{kind}.npy" if variant == 0 else f"{kind}.{variant}.npy"


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename: the file is whole or absent."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


class ColumnWriter:
    """Appends rows to an .npy file whose length is known only at the end."""

    def __init__(self, path: Path):
        self.path = path
        self.file: BinaryIO | None = None
        self.rows = 0
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint8)
        self.header = 0

    def _write_header(self) -> None:
        assert self.file is not None
        head = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, head)

    def append(self, rows: np.ndarray) -> None:
        """Add rows (n, ...); shape and dtype are those of the first call."""
        if self.file is None:
            self.file = open(self.path, "wb")  # noqa: SIM115 - closed by close()
            self.shape, self.dtype = rows.shape[1:], rows.dtype
            self._write_header()
            self.header = self.file.tell()
        assert rows.shape[1:] == self.shape and rows.dtype == self.dtype
        self.file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the true length into the header, whose size NumPy keeps fixed for any number of rows."""
        if self.file is not None:
            self._write_header()
            assert self.file.tell() == self.header
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self.file = None


class ShardWriter:
    """Writes a shard into a temporary folder and renames it when whole. A context manager: an error leaves nothing.

    Args:
        folder: of the finished shard.
        source, split: of all its samples.
        columns: kind -> number of variants.
    """

    def __init__(self, folder: Path, source: str, split: str, columns: dict[str, int]):
        self.folder = folder
        self.partial = folder.with_name(f".{folder.name}.partial")
        self.info = ShardInfo(folder.name, source, split, 0, 0, None, columns)
        if self.partial.exists():
            shutil.rmtree(self.partial)
        self.partial.mkdir(parents=True)
        names = [(kind, v) for kind, n in columns.items() for v in range(n)]
        self.writers = {name: ColumnWriter(self.partial / column_file(*name)) for name in names}
        self.samples: list[tuple[int, int, int]] = []
        self.keys: list[tuple[str, str]] = []
        self.rows = 0

    def add_sample(self, key: str, group: str, category: str | None, n_frames: int) -> None:
        """Announce the next n_frames rows as one sample."""
        known = self.info.categories
        if category is not None and category not in known:
            known.append(category)
        self.samples.append((self.rows, n_frames, -1 if category is None else known.index(category)))
        self.keys.append((key, group))
        self.rows += n_frames

    def append(self, kind: str, variant: int, rows: np.ndarray) -> None:
        self.writers[kind, variant].append(rows)

    def copy_samples(self, shard: Shard) -> None:
        """Take over the samples of another shard, whose rows are then appended in the same order."""
        self.info.categories = list(shard.info.categories)
        self.samples = [tuple(int(v) for v in row) for row in shard.samples()]  # type: ignore[misc]
        self.keys = list(shard.keys())
        self.rows = shard.info.n_frames

    def finish(self) -> ShardInfo:
        """Write what is left, checksums last, and publish the folder."""
        for name, writer in self.writers.items():
            writer.close()
            assert writer.rows == self.rows, f"column {name} has {writer.rows} rows of {self.rows}"
        lengths = {n for _, n, _ in self.samples}
        self.info.n_frames, self.info.n_samples = self.rows, len(self.samples)
        self.info.frames_per_sample = lengths.pop() if len(lengths) == 1 else None
        if self.info.frames_per_sample is None or self.info.categories:
            np.save(self.partial / "samples.npy", np.array(self.samples, np.int64).reshape(-1, 3))
        with open(self.partial / "keys.jsonl", "w", encoding="utf-8") as file:
            for key, group in self.keys:
                file.write(json.dumps({"key": key, "group": group}, ensure_ascii=False) + "\n")
        files = sorted(p for p in self.partial.iterdir() if p.is_file())
        self.info.checksums = {p.name: sha256(p) for p in files}
        write_json(self.partial / "shard.json", asdict(self.info))
        if self.folder.exists():
            shutil.rmtree(self.folder)
        os.replace(self.partial, self.folder)
        return self.info

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: Any, trace: TracebackType | None) -> None:
        for writer in self.writers.values():
            if writer.file is not None:
                writer.file.close()
        if kind is not None:
            shutil.rmtree(self.partial, ignore_errors=True)
