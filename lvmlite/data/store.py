"""The store: a folder of memory-mapped columns, the grid time x kind on disk.

In: rows of pictures or tokens. Out: arrays by (shard, kind, variant), opened with `np.load(mmap_mode="r")`.

    store.json             what the columns hold, and one line a shard
    <shard>/<kind>.npy     (frames, S) uint16 tokens, or (frames, H, W, 3) uint8 pixels; row r of all is one frame
    <shard>/<kind>.<v>.npy variant v > 0 of the same frames
    <shard>/samples.npy    (samples, 3) int64: start, n_frames, category (-1 none); absent where it says nothing
    <shard>/keys.jsonl     key and group of every sample, for people and for build
    <shard>/shard.json     the shard's line of store.json, with checksums; written last
    parts/<part>.json      what build.py has finished, so that a killed build goes on there
    rejects.jsonl          input that gave no sample, and why

A shard is homogeneous: one source, one split, one set of native annotations, so one set of kinds. TokenStore and
PixelStore differ only in `content`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from lvmlite.data.column import ColumnWriter, column_file, flush, sha256

FORMAT = 1
IMAGE = "image"  # the kind that is the photo itself
SAMPLES, KEYS = "samples.npy", "keys.jsonl"


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
        annotations: the native annotations of its samples, beside the photo: what decides which kinds it can have.
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
    annotations: list[str] = field(default_factory=list)

    @property
    def samples_id(self) -> tuple[Any, ...]:
        """What says which samples it holds in which order; equal for the pixels and the tokens of a shard."""
        lists = [self.checksums.get(name) for name in (SAMPLES, KEYS)]
        return (self.name, self.source, self.split, self.annotations, self.n_frames, *lists)

    @property
    def n_pictures(self) -> int:
        return self.n_frames * sum(self.columns.values())

    @property
    def lists_samples(self) -> bool:
        """Whether samples.npy says something that is not said here."""
        return self.frames_per_sample is None or bool(self.categories)


@dataclass
class StoreInfo:
    """store.json.

    Attributes:
        content: "tokens" or "pixels".
        geometry: of `images.Geometry`; every picture was brought to it.
        kinds: resolved config of every kind but "image".
        sources: name -> {"licence", "frame_step", "views"}, see `Source.about`.
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
    """A shard opened for reading. `about` is what its store says of its source: licence, frame_step, views."""

    def __init__(self, folder: Path, info: ShardInfo, about: dict[str, Any] | None = None):
        self.folder = folder
        self.info = info
        self.about = about or {}

    def column(self, kind: str, variant: int = 0) -> np.ndarray:
        """The memory-mapped column: (frames, S) or (frames, H, W, 3).

        It is opened anew each time and closed with the last array that refers to it: a store may have more columns
        than a process may have files open.

        Raises:
            KeyError: no such kind or variant. ValueError: the file is missing or broken, in one line.
        """
        if not 0 <= variant < self.info.columns[kind]:
            raise KeyError(f"{self.folder.name} has no variant {variant} of {kind}")
        return self._load(column_file(kind, variant), self.info.n_frames, "r")

    def samples(self) -> np.ndarray:
        """(samples, 3) int64: start, n_frames, category. Raises ValueError if the file is missing or broken."""
        if self.info.lists_samples:
            return self._load(SAMPLES, self.info.n_samples, None)
        each = self.info.frames_per_sample
        assert each is not None
        start = np.arange(self.info.n_samples, dtype=np.int64) * each
        return np.stack((start, np.full_like(start, each), np.full_like(start, -1)), axis=1)

    def keys(self) -> Iterator[tuple[str, str]]:
        """(key, group) of every sample. Raises ValueError if the file is missing or broken."""
        path = self.folder / KEYS
        try:
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    entry = json.loads(line)
                    yield entry["key"], entry["group"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise broken(path, error) from None

    def _load(self, name: str, rows: int, mode: Literal["r"] | None) -> np.ndarray:
        path = self.folder / name
        try:
            found: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
        except FileNotFoundError:
            raise ValueError(f"{path}: cannot be read (missing); build the store again") from None
        except EOFError:
            raise broken(path, "the file is empty") from None
        except (OSError, ValueError) as error:
            raise broken(path, "cut short" if "mmap length" in str(error) else error) from None
        if len(found) != rows:
            raise broken(path, f"{len(found)} rows, shard.json says {rows}")
        return found


class Store:
    """A store opened for reading. Use `Store.open`."""

    def __init__(self, path: Path, info: StoreInfo):
        self.path = path
        self.info = info
        self.shards = [Shard(path / s.name, s, info.sources.get(s.source)) for s in info.shards]

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Read store.json; the columns are opened when used.

        Raises:
            ValueError: not a store, of another format version, or unfinished; in one line.
        """
        path = Path(path)
        file = path / "store.json"
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
            version = raw.get("format")
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"{path}: not a finished store (no store.json); build it first") from None
        except (OSError, ValueError, AttributeError) as error:
            raise broken(file, error) from None
        if version != FORMAT:
            raise ValueError(f"{path}: store format {version}, this version reads {FORMAT}; build the store again")
        try:
            raw["shards"] = [ShardInfo(**shard) for shard in raw["shards"]]
            return cls(path, StoreInfo(**raw))
        except (KeyError, TypeError) as error:
            raise broken(file, error) from None

    def select(self, split: str, sources: list[str] | None = None) -> list[Shard]:
        """The shards of a split, of all or some sources."""
        return [s for s in self.shards if s.info.split == split and (sources is None or s.info.source in sources)]

    @property
    def n_tokens(self) -> int:
        """Tokens per picture. Raises ValueError for a store of pixels."""
        if self.info.grid is None:
            raise ValueError(f"{self.path}: holds pixels, not tokens; name a store of tokens")
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
            if read_shard_info(shard.folder) != shard.info:
                wrong.append(f"{shard.info.name}/shard.json: not what store.json says")
        return wrong


def broken(path: Path, why: object) -> ValueError:
    """One line for a file of a store that cannot be used."""
    reason = (isinstance(why, OSError) and why.strerror) or why
    return ValueError(f"{path}: cannot be read ({reason}); build the store again after deleting it")


def check_codes(codes: np.ndarray, codebook_size: int | None, where: object) -> None:
    """Raises ValueError if codes are none of the codebook: a file was damaged after it was written."""
    if codebook_size is not None and codes.size and (largest := int(codes.max())) >= codebook_size:
        raise ValueError(
            f"{where}: a code {largest} in a codebook of {codebook_size}: a damaged file; "
            "lvmlite data inspect --verify finds it"
        )


def read_shard_info(folder: Path) -> ShardInfo | None:
    """What shard.json says; None if it is missing or broken."""
    try:
        return ShardInfo(**json.loads((folder / "shard.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename: the file is whole or absent."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


class ShardWriter:
    """Writes a shard into a temporary folder and renames it when whole.

    A context manager: leaving it before `finish` is through leaves nothing.

    Args:
        folder: of the finished shard; one that is there is replaced.
        source, split: of all its samples.
        columns: kind -> number of variants.
        annotations: of `ShardInfo`.
    """

    def __init__(self, folder: Path, source: str, split: str, columns: dict[str, int], annotations: Sequence[str] = ()):
        self.folder = folder
        self.partial = folder.with_name(f".{folder.name}.partial")
        self.info = ShardInfo(folder.name, source, split, 0, 0, None, columns, annotations=list(annotations))
        if self.partial.exists():
            shutil.rmtree(self.partial)
        self.partial.mkdir(parents=True)
        names = [(kind, v) for kind, n in columns.items() for v in range(n)]
        self.writers = {name: ColumnWriter(self.partial / column_file(*name)) for name in names}
        self.categories: dict[str, int] = {}
        self.samples: list[tuple[int, int, int]] = []
        self.keys: list[tuple[str, str]] = []
        self.model: Shard | None = None
        self.rows = 0

    def add_sample(self, key: str, group: str, category: str | None, n_frames: int) -> None:
        """Announce the next n_frames rows as one sample."""
        number = -1 if category is None else self.categories.setdefault(category, len(self.categories))
        self.samples.append((self.rows, n_frames, number))
        self.keys.append((key, group))
        self.rows += n_frames

    def append(self, kind: str, variant: int, rows: np.ndarray) -> None:
        """Add rows (n, ...) to a column."""
        self.writers[kind, variant].append(rows)

    def copy_samples(self, shard: Shard) -> None:
        """Take over the samples of another shard, whose rows are then appended in the same order."""
        self.model, self.rows = shard, shard.info.n_frames

    def finish(self) -> ShardInfo:
        """Write what is left, checksums last, and publish the folder.

        Raises:
            OSError: the disk is full, for one; ValueError: the shard to copy samples from is broken.
        """
        for name, writer in self.writers.items():
            writer.close()
            assert writer.rows == self.rows, f"column {name} has {writer.rows} rows of {self.rows}"
        info = self.info
        info.n_frames = self.rows
        if self.model is None:
            lengths = {n for _, n, _ in self.samples}
            info.n_samples, info.categories = len(self.samples), list(self.categories)
            info.frames_per_sample = lengths.pop() if len(lengths) == 1 else None
            self._write_samples()
        else:
            info.n_samples, info.categories = self.model.info.n_samples, list(self.model.info.categories)
            info.frames_per_sample = self.model.info.frames_per_sample
            info.annotations = list(self.model.info.annotations)
            self._copy_samples(self.model)
        files = sorted(p.name for p in self.partial.iterdir() if p.is_file())
        info.checksums = {name: sha256(self.partial / name) for name in files}
        write_json(self.partial / "shard.json", asdict(info))
        if self.folder.exists():
            shutil.rmtree(self.folder)
        os.replace(self.partial, self.folder)
        return info

    def _write_samples(self) -> None:
        if self.info.lists_samples:
            with open(self.partial / SAMPLES, "wb") as table:
                np.save(table, np.array(self.samples, np.int64).reshape(-1, 3))
                flush(table)
        with open(self.partial / KEYS, "w", encoding="utf-8", newline="\n") as lines:
            for key, group in self.keys:
                lines.write(json.dumps({"key": key, "group": group}, ensure_ascii=False) + "\n")
            flush(lines)

    def _copy_samples(self, shard: Shard) -> None:
        for name in (SAMPLES, KEYS) if self.info.lists_samples else (KEYS,):
            if not (shard.folder / name).is_file():
                raise broken(shard.folder / name, "missing")
            with open(shard.folder / name, "rb") as original, open(self.partial / name, "wb") as copy:
                shutil.copyfileobj(original, copy)
                flush(copy)

    def abandon(self) -> None:
        """Close and delete what was written; nothing once `finish` is through."""
        for writer in self.writers.values():
            writer.abandon()
        shutil.rmtree(self.partial, ignore_errors=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: Any, trace: TracebackType | None) -> None:
        self.abandon()
