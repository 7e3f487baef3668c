"""A column of a shard: its file, and how rows are appended to it.

In: rows of pictures or tokens. Out: `<kind>.npy`, as NumPy reads it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np


def column_files(columns: dict[str, int]) -> dict[str, str]:
    """Name of each column's file -> its kind."""
    return {column_file(kind, v): kind for kind, variants in columns.items() for v in range(variants)}


def column_file(kind: str, variant: int) -> str:
    return f"{kind}.npy" if variant == 0 else f"{kind}.{variant}.npy"


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        assert rows.shape[1:] == self.shape, f"{self.path}: rows of {rows.shape[1:]} after {self.shape}"
        assert rows.dtype == self.dtype, f"{self.path}: {rows.dtype} after {self.dtype}"
        self.file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the true length into the header, whose size NumPy keeps fixed for any number of rows."""
        if self.file is not None:
            self._write_header()
            assert self.file.tell() == self.header
            flush(self.file)
            self.file.close()
            self.file = None

    def abandon(self) -> None:
        """Close the file as it is. Closing writes what is buffered, which fails again on a full disk."""
        if self.file is not None:
            with suppress(OSError):
                self.file.close()
            self.file = None


def flush(file: IO[Any]) -> None:
    """Bring a file to the disk: a disk may turn out to be full only then."""
    file.flush()
    os.fsync(file.fileno())
