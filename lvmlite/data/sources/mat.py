"""MATLAB 5 files, in which several data sets keep their annotations: cells, structs and arrays of numbers.

In: bytes nobody has checked. Out: lists, dicts and numpy arrays, or `Unreadable`. The format is MathWorks' "MAT-File
Level 5". scipy reads it too, but a damaged file can end the whole process there; here every length is checked before it
is used, sizes are bounded, and nothing but numbers and names is made of what is read.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from lvmlite.images import Unreadable

MAX_BYTES = 2**29  # of one variable, unpacked
MAX_DEPTH = 16
COMPRESSED, MATRIX = 15, 14
CELL, STRUCT = 1, 2
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = 0x800
DAMAGED = "damaged .mat file"


def read_mat(data: bytes, variable: str) -> Any:
    """A variable: an array of numbers with MATLAB's shape, a list of a cell array's items or of a struct array's
    dicts, both column by column; None where it is not there. Text, sparse and complex arrays and objects are None too.

    Raises:
        Unreadable: "not a MATLAB 5 file", "damaged .mat file", "too large: ...".
    """
    if len(data) < 128 or data[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise Unreadable("not a MATLAB 5 file")
    file = Cursor(data, "<" if data[126:128] == b"IM" else ">", 128)
    while file.at < len(data):
        kind, body = file.element(padded=False)
        if kind == COMPRESSED:
            kind, body = Cursor(unpack(body), file.order).element()
        if kind == MATRIX:
            name, value = Cursor(body, file.order).matrix()
            if name == variable:
                return value
    return None


def unpack(body: bytes) -> bytes:
    """A compressed element as it was. Raises Unreadable."""
    stream = zlib.decompressobj()
    try:
        whole = stream.decompress(body, MAX_BYTES)
    except zlib.error as error:
        raise Unreadable(DAMAGED) from error
    if not stream.eof:
        raise Unreadable(f"too large: more than {MAX_BYTES} bytes" if len(whole) == MAX_BYTES else DAMAGED)
    return whole


@dataclass
class Cursor:
    """A place in bytes. `order` is "<" or ">", the order of the bytes of a number. All methods raise Unreadable."""

    data: bytes
    order: str
    at: int = 0

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if n < 0 or self.at + n > len(self.data):
            raise Unreadable(DAMAGED)
        self.at += n
        return self.data[self.at - n : self.at]

    def element(self, padded: bool = True) -> tuple[int, bytes]:
        """Type and bytes of the next element. Those of up to four bytes lie within the tag."""
        first = int(np.frombuffer(self.take(4), f"{self.order}u4")[0])
        if first >> 16:
            return first & 0xFFFF, self.take(4)[: first >> 16]
        body = self.take(int(np.frombuffer(self.take(4), f"{self.order}u4")[0]))
        if padded or first != COMPRESSED:
            self.at += -len(body) % 8
        return first, body

    def numbers(self) -> np.ndarray:
        """The next element, of numbers: (n,) as stored."""
        kind, body = self.element()
        if kind not in STORED or len(body) % int(STORED[kind][1]):
            raise Unreadable(DAMAGED)
        return np.frombuffer(body, self.order + STORED[kind])

    def matrix(self, depth: int = 0) -> tuple[str, Any]:
        """The name and the value of an array, whose element's bytes these are."""
        if not self.data:
            return "", np.zeros((0, 0))
        flags, shape, name = self.numbers(), self.numbers(), self.numbers().tobytes().decode("latin-1")
        if len(flags) < 1 or len(shape) < 2 or shape.dtype.kind == "f" or shape.min() < 0 or depth > MAX_DEPTH:
            raise Unreadable(DAMAGED)
        kind, size = int(flags[0]) & 0xFF, math.prod(int(n) for n in shape)
        if size > len(self.data):  # an item takes at least one byte
            raise Unreadable(DAMAGED)
        if kind == CELL:
            return name, [self.inner(depth) for _ in range(size)]
        if kind == STRUCT:
            fields = self.fields()
            if not fields and size > 1:
                raise Unreadable(DAMAGED)
            return name, [{field: self.inner(depth) for field in fields} for _ in range(size)]
        if kind not in NUMERIC or int(flags[0]) & COMPLEX:
            return name, None
        values = self.numbers()
        if len(values) != size:
            raise Unreadable(DAMAGED)
        with np.errstate(invalid="ignore"):
            return name, values.astype(NUMERIC[kind]).reshape([int(n) for n in shape], order="F")

    def inner(self, depth: int) -> Any:
        """The next element, an array in a cell or a field."""
        kind, body = self.element()
        if kind != MATRIX:
            raise Unreadable(DAMAGED)
        return Cursor(body, self.order).matrix(depth + 1)[1]

    def fields(self) -> list[str]:
        """The names of a struct's fields, each filled up with NUL to one length."""
        length, names = self.numbers(), self.numbers().tobytes()
        if len(length) != 1 or not 0 < length[0] <= 64 or len(names) % int(length[0]):
            raise Unreadable(DAMAGED)
        step = int(length[0])
        return [names[i : i + step].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), step)]
