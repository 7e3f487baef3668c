"""Source `parquet`: pictures in columns of Parquet files, as samples of 1 x {image, annotations}.

In: files whose picture columns hold bytes: plain binary, or a struct with a field "bytes", as Hugging Face's `datasets`
writes its Image feature (https://huggingface.co/docs/datasets/image_dataset). Out: one sample a row; a `Reject` for a
row without a picture, and one for a file that is no Parquet or a row group that is damaged.

A row group is a part. Rows are read a few at a time, so that memory does not grow with row groups or files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from lvmlite.data.sources.base import Part, Reject, with_rejects
from lvmlite.data.sources.columns import ColumnsConfig, Packed, shares
from lvmlite.sample import Sample

BATCH = 16  # rows held at once
DAMAGED = "Parquet damaged or cut short"


@dataclass(frozen=True)
class ParquetConfig(ColumnsConfig):
    """Settings of `Parquet`: those of every source of packed samples, and

    image: the column of the photo.
    category: the column that names the class, of text or whole numbers; a ClassLabel of `datasets` gives its names.
    """

    source: Literal["parquet"] = "parquet"
    name: str = "parquet"
    image: str = "image"
    category: str | None = None


@dataclass(frozen=True)
class Table:
    """What the footer of a file says: bytes of the file, and rows of each row group."""

    size: int
    rows: tuple[int, ...]


class Parquet(Packed):
    """Samples of `ParquetConfig`. Nothing is drawn: `seed` is there because every source takes one.

    Raises:
        ValueError: pyarrow is not installed, no file can be read, or a column is not there or holds something else.
    """

    def __init__(self, config: ParquetConfig, seed: int = 0) -> None:
        super().__init__(config, [".parquet"], "Parquet files")
        self._names: Sequence[str] = ()
        self.tables: dict[str, Table] = {}
        for name, path in self.files.items():
            schema, table = read_footer(path)
            if schema is None:
                self.rejects.append(Reject(name, DAMAGED))
                continue
            wrong = self._check(schema)
            if wrong and not self.tables:
                raise ValueError(f"{config.path}: {name}: {wrong}")
            if wrong:
                self.rejects.append(Reject(name, "columns differ from those of the first file"))
                continue
            if not self.tables:
                self._names = class_names(schema, config.category)
            self.tables[name] = table
        if not self.tables:
            raise ValueError(f"{config.path}: none of {len(self.files)} Parquet files can be read; fetch them again")
        sizes = [rows for table in self.tables.values() for rows in table.rows]
        of_groups = iter(shares(sizes, config.max_samples))
        self._most = {name: [next(of_groups) for _ in table.rows] for name, table in self.tables.items()}

    def parts(self) -> list[Part]:
        """A part a row group; before them, if listing passed anything over, one part of rejects."""
        return with_rejects(
            (
                Part(f"{quote(name, safe='')}-{group:05d}", ((name, group),), str(table.size))
                for name, table in self.tables.items()
                for group, most in enumerate(self._most[name])
                if most
            ),
            self.rejects,
        )

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        for item in part.items:
            if isinstance(item, Reject):
                yield item
            else:
                yield from self._group(*item)

    def sample(self, key: str) -> Sample:
        """Reads the row group up to the row. Raises KeyError."""
        name, number = self.locate(key)
        if name not in self.tables or not number.isdecimal() or key != row_key(name, int(number)):
            raise KeyError(key)
        ends = list(accumulate(self.tables[name].rows))
        group = next((i for i, end in enumerate(ends) if int(number) < end), None)
        if group is not None:
            for item in self._group(name, group):
                if item.key == key and isinstance(item, Sample):
                    return item
        raise KeyError(key)

    def _group(self, name: str, group: int) -> Iterator[Sample | Reject]:
        """The samples of a row group, at most as many as are its share."""
        first, most = sum(self.tables[name].rows[:group]), self._most[name][group]
        columns = [self.config.image, *self.config.columns, *([self.config.category] if self.config.category else [])]
        for i, row in enumerate(read_rows(self.files[name], group, columns)):
            if i == most:
                return
            if isinstance(row, Reject):
                yield Reject(f"{name}#{group:05d}", row.reason)
            else:
                yield self._sample(name, row_key(name, first + i), row)

    def _sample(self, name: str, key: str, row: dict[str, Any]) -> Sample | Reject:
        columns = {}
        for annotation, column in [("image", self.config.image), *((a, c) for c, a in self.config.columns.items())]:
            cell = row[column]
            data = cell.get("bytes") if isinstance(cell, dict) else cell
            if not data:
                return Reject(key, "no picture" if annotation == "image" else f"partner is missing: {annotation}")
            columns[annotation] = data
        label = row[self.config.category] if self.config.category else None
        if self._names and isinstance(label, int):
            if label >= len(self._names):
                return Reject(key, "category without a name")
            label = self._names[label] if label >= 0 else None  # -1 is what `datasets` gives for no label
        return self.packed_sample(name, key, None if label in (None, "") else str(label), columns)

    def _check(self, schema: Any) -> str:
        """What is wrong with the columns of a file, or nothing."""
        import pyarrow.types as types

        def holds_bytes(dtype: Any) -> bool:
            if types.is_struct(dtype):
                return dtype.get_field_index("bytes") >= 0 and holds_bytes(dtype.field("bytes").type)
            return types.is_binary(dtype) or types.is_large_binary(dtype)

        def names_a_class(dtype: Any) -> bool:
            if types.is_dictionary(dtype):
                return names_a_class(dtype.value_type)
            return types.is_integer(dtype) or types.is_string(dtype) or types.is_large_string(dtype)

        pictures = (self.config.image, *self.config.columns)
        for column in (*pictures, *([self.config.category] if self.config.category else [])):
            if schema.names.count(column) != 1:
                return f"no column '{column}'; there is {', '.join(schema.names)}"
            dtype = schema.field(column).type
            if column in pictures and not holds_bytes(dtype):
                return f"column '{column}' holds {dtype}, not pictures (binary, or a struct with bytes)"
            if column == self.config.category and not names_a_class(dtype):
                return f"column '{column}' holds {dtype}, not classes (text or whole numbers)"
        return ""


def pyarrow_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises on malformed files. Raises ValueError: pyarrow is not installed."""
    try:
        import pyarrow
    except ImportError:
        raise ValueError('source parquet needs pyarrow; run: pip install "lvmlite[parquet]"') from None
    return OSError, ValueError, IndexError, OverflowError, MemoryError, pyarrow.ArrowException


def open_file(path: Path) -> Any:
    """A pyarrow.parquet.ParquetFile that reads a piece at a time. Raises `pyarrow_errors`."""
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)


def read_footer(path: Path) -> tuple[Any, Table]:
    """The Arrow schema of a file and its row groups; no schema if the file is damaged."""
    errors = pyarrow_errors()
    try:
        file = open_file(path)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        rows = tuple(group.num_rows for group in groups)
        schema = file.schema_arrow if all(n >= 0 for n in rows) else None
        return schema, Table(path.stat().st_size, rows)
    except errors:
        return None, Table(0, ())


def read_rows(path: Path, group: int, columns: Sequence[str]) -> Iterator[dict[str, Any] | Reject]:
    """The rows of a row group as column -> value, a few at a time; a `Reject` where it is damaged."""
    errors = pyarrow_errors()
    try:
        batches = open_file(path).iter_batches(BATCH, row_groups=[group], columns=list(columns), use_threads=False)
        for batch in batches:
            yield from batch.to_pylist()
    except errors:
        yield Reject("", DAMAGED)


def class_names(schema: Any, column: str | None) -> Sequence[str]:
    """The names of a ClassLabel column, out of what `datasets` writes into the schema; none for any other column."""
    import pyarrow.types as types

    if column is None or not types.is_integer(schema.field(column).type):
        return ()
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        return ()
    found: Any = stored
    for place in ("info", "features", column, "names"):
        found = found.get(place) if isinstance(found, dict) else None
    is_names = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return tuple(found) if is_names else ()


def row_key(name: str, number: int) -> str:
    """ "a.parquet", 12 -> "a.parquet/00000012": row 12 of the file."""
    return f"{name}/{number:08d}"
