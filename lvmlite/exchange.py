"""Token stores from and for other systems: LVM's JSON lines, DeLVM's bin, and Parquet.

In: a token file, or a store and which sentences of it. Out: a store whose samples are the sentences of the file, or the
file. The formats are in `interop/`; a store imported and exported again gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.column import column_file
from lvmlite.data.parts import Progress, building, file_name, publish, read_rejects, write_rejects
from lvmlite.data.store import ShardInfo, ShardWriter, Store, StoreInfo, check_codes
from lvmlite.data.stream import Stream
from lvmlite.interop.delvm import meta_path, read_delvm, write_delvm
from lvmlite.interop.lines import BadLine, Codes
from lvmlite.interop.lvm import read_lvm, write_lvm

SHARD_ROWS = 2**20  # pictures of a shard
UNKNOWN = "imported"  # code fingerprint of tokens whose tokenizer was not named
READERS: dict[str, Callable[[Path, Codes], Iterator[np.ndarray | BadLine]]] = {"lvm": read_lvm, "delvm": read_delvm}
FORMATS = (*READERS, "parquet")
ROWS_AT_ONCE = 4096


def format_of(path: Path, named: str | None) -> str:
    """The format of a file, by its name unless it is named. Raises ValueError."""
    if named is not None:
        return named
    found = {".jsonl": "lvm", ".json": "lvm", ".bin": "delvm", ".parquet": "parquet"}.get(path.suffix)
    if found is None:
        raise ValueError(f"{path}: cannot tell its format; name it with --format {' | '.join(FORMATS)}")
    return found


def import_tokens(
    path: Path,
    out: Path,
    format: str,
    *,
    grid: tuple[int, int] = (16, 16),
    codebook_size: int = 8192,
    size: int = 256,
    fingerprint: str = UNKNOWN,
    name: str = "imported",
    split: str = "train",
    licence: str = "unknown",
    progress: Progress | None = None,
) -> Store:
    """A store whose samples are the sentences of a token file, for sentence: whole.

    Malformed lines are rejected, with their number, in rejects.jsonl.

    Args:
        grid, codebook_size, size, fingerprint: of the tokenizer: rows and columns of codes, number of codes, pixels.
        name, split, licence: of the source; a file is one split.

    Raises:
        ValueError: a format that is not read, not one sentence in the file, or `out` holds another store. OSError.
    """
    if format not in READERS:
        raise ValueError(f"{path}: tokens are read from {' or '.join(READERS)}, not from {format}")
    with open(path, "rb"):  # before anything is made
        pass
    check_free(out, path)
    codes = Codes(grid[0] * grid[1], codebook_size)
    infos: list[ShardInfo] = []
    rejects: list[dict[str, str]] = []
    with building(out, progress):
        (out / "store.json").unlink(missing_ok=True)
        lines = enumerate(READERS[format](path, codes), 1)
        n = 0
        while True:
            folder = out / file_name(name, split, f"{len(infos):05d}")
            with ShardWriter(folder, name, split, {IMAGE: 1}) as writer:
                while writer.rows < SHARD_ROWS and (found := next(lines, None)) is not None:
                    number, sentence = found
                    if isinstance(sentence, BadLine):
                        reject = {"source": name, "key": f"line {sentence.number}", "reason": sentence.reason}
                        rejects.append(reject)
                        continue
                    writer.add_sample(f"{number:09d}", f"{number:09d}", None, len(sentence))
                    writer.append(IMAGE, 0, sentence)
                    n += 1
                    if progress and n % ROWS_AT_ONCE == 0:
                        progress(n, 0, path.name)
                if not writer.rows:
                    break
                infos.append(writer.finish())
        write_rejects(out, rejects)
        if not infos:
            first = f"; {rejects[0]['key']}: {rejects[0]['reason']}" if rejects else ""
            raise ValueError(f"{path}: no sentence of whole pictures of {codes.per_picture} tokens{first}")
        geometry = {"size": size, "fit": "squash"}
        about = {name: {"licence": licence}}
        encoding = {"imported": path.name}
        info = StoreInfo("tokens", geometry, {}, about, [*grid], codebook_size, fingerprint, encoding, infos)
        publish(out, info, [])
    return Store.open(out)


def check_free(out: Path, path: Path) -> None:
    """Raises ValueError if a file is to be imported over anything but an earlier import of a file of its name."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: a file, but a store is a folder; name another with --out")
    built = any((out / "parts").glob("*.json"))
    if (out / "store.json").exists():
        built = built or (Store.open(out).info.encoding or {}).get("imported") != path.name
    if built:
        raise ValueError(f"{out}: holds another store, which would be lost; name another folder with --out")


def stored_sentences(store: Store, split: str) -> Iterator[np.ndarray]:
    """The pictures of every sample of a split, in the store's order: codes (n, S)."""
    for shard in store.select(split):
        column = shard.column(IMAGE)
        for start, n, _ in shard.samples():
            codes = np.array(column[start : start + n])
            check_codes(codes, store.info.codebook_size, shard.folder / column_file(IMAGE, 0))
            yield codes


def drawn_sentences(stream: Stream, n: int) -> Iterator[np.ndarray]:
    """The first n sentences of a mix, slot by slot: codes (pictures, S)."""
    made = index = 0
    while made < n:
        kind, groups = stream.sentences(index)
        slots: list[list[np.ndarray]] = [[] for _ in kind]
        for group in groups:
            codes = stream.columns.gather(group.columns, group.rows)
            check_codes(codes, stream.bos, f"a sentence '{stream.types[group.type].name}'")
            several = codes.reshape(len(group.mine), -1, *codes.shape[1:])
            for slot, sentences in zip(group.mine, several, strict=True):
                slots[slot] = list(sentences)
        for sentence in [s for slot in slots for s in slot][: n - made]:
            yield sentence
            made += 1
        index += 1


def export_sentences(path: Path, format: str, sentences: Iterable[np.ndarray]) -> int:
    """Write sentences for LVM or DeLVM; gives how many. The file is whole or absent. Raises OSError."""
    if format == "lvm":
        with whole(path) as file:
            return write_lvm(file, sentences)
    assert format == "delvm", format
    with whole(path) as file:
        table = write_delvm(file, sentences)
    with whole(meta_path(path)) as file:
        np.save(file, table)
    return len(table)


def export_parquet(store: Store, path: Path, split: str | None = None) -> int:
    """Write a store as one Parquet file, a row a frame; gives the number of rows.

    Columns: source, split, key, group, category, frame, and for each kind (``kind.v`` for a variant v) the codes, a
    list of uint16 or uint32, null where a frame lacks the kind.

    Raises:
        ValueError: pyarrow is not installed, or the split is empty. OSError.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError('Parquet needs pyarrow; run: pip install "lvmlite[parquet]"') from None
    shards = [shard for shard in store.shards if split in (None, shard.info.split)]
    if not shards:
        raise ValueError(f"{store.path}: no {split} split")
    names = {(kind, v): None for shard in shards for kind, n in shard.info.columns.items() for v in range(n)}
    dtype = shards[0].column(IMAGE).dtype
    codes = pyarrow.list_(pyarrow.from_numpy_dtype(dtype), store.n_tokens)
    text = [(name, pyarrow.string()) for name in ("source", "split", "key", "group", "category")]
    fields = [*text, ("frame", pyarrow.int32()), *((_column_name(*name), codes) for name in names)]
    schema, rows = pyarrow.schema(fields), 0
    with whole(path) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for shard in shards:
            columns = {name: shard.column(*name) for name in names if name[1] < shard.info.columns.get(name[0], 0)}
            for first, last, table in _frames(shard):
                for name in names:
                    if name in columns:
                        some = np.array(columns[name][first:last])
                        check_codes(some, store.info.codebook_size, shard.folder / column_file(*name))
                        flat = pyarrow.array(some.ravel())
                        table.append(pyarrow.FixedSizeListArray.from_arrays(flat, store.n_tokens))
                    else:
                        table.append(pyarrow.nulls(last - first, codes))
                writer.write_batch(pyarrow.record_batch(table, schema=schema))
                rows += last - first
    return rows


def _frames(shard: Any) -> Iterator[tuple[int, int, list[Any]]]:
    """Rows first .. last-1 of a shard with what is known of their samples, some at a time."""
    known: list[tuple[str, str, str, str, str | None, int]] = []
    at, info = 0, shard.info
    for (_, n, number), (key, group) in zip(shard.samples(), shard.keys(), strict=True):
        category = info.categories[number] if number >= 0 else None
        known += [(info.source, info.split, key, group, category, t) for t in range(n)]
        if len(known) >= ROWS_AT_ONCE:
            yield at, at + len(known), [list(column) for column in zip(*known)]
            at, known = at + len(known), []
    if known:
        yield at, at + len(known), [list(column) for column in zip(*known)]


def _column_name(kind: str, variant: int) -> str:
    return kind if variant == 0 else f"{kind}.{variant}"


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is whole. Raises ValueError if a folder is there, OSError."""
    if path.is_dir():
        raise ValueError(f"{path}: a folder, but a file is to be written; name one in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def rejected_lines(store: Store, most: int = 5) -> Sequence[str]:
    """ "line 17: not JSON", for the first few lines of an import that were rejected, and how many more there are."""
    rejects = read_rejects(store.path)
    shown = [f"{reject['key']}: {reject['reason']}" for reject in rejects[:most]]
    return [*shown, f"and {len(rejects) - most} more, see {store.path / 'rejects.jsonl'}"] if rejects[most:] else shown
