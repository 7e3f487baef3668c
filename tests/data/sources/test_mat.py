"""MATLAB 5 files: what scipy writes is read alike, in either order of bytes; what is not such a file is refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from lvmlite.data.sources import mat
from lvmlite.data.sources.mat import read_mat
from lvmlite.images import Unreadable

KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


def save(compress: bool = False, **variables) -> bytes:
    out = io.BytesIO()
    savemat(out, variables, do_compression=compress)
    return out.getvalue()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_keep_shape_and_type(kind, compress):
    stored = (np.arange(24).reshape(2, 3, 4) * 3).astype(kind)
    found = read_mat(save(compress, first=np.ones(9), wanted=stored, last=np.zeros(3)), "wanted")
    np.testing.assert_array_equal(found, stored)
    assert found.dtype == np.dtype(kind)


def test_cells_structs_and_what_is_in_them():
    cells = np.empty((1, 3), object)
    cells[0, 0], cells[0, 1], cells[0, 2] = np.eye(2), "text", np.zeros((0, 0))
    found = read_mat(save(x={"name_of_a_field": np.arange(5, dtype=np.uint16), "cells": cells}), "x")
    assert [sorted(item) for item in found] == [["cells", "name_of_a_field"]]
    np.testing.assert_array_equal(found[0]["name_of_a_field"], [range(5)])
    matrix, text, empty = found[0]["cells"]
    np.testing.assert_array_equal(matrix, np.eye(2))
    assert text is None
    assert empty.size == 0


def test_what_is_not_there_or_not_numbers_is_none():
    data = save(x=np.array([1 + 2j]), y="text", z=np.array([True, False]))
    assert read_mat(data, "missing") is None
    assert read_mat(data, "x") is None
    assert read_mat(data, "y") is None
    assert read_mat(data, "z").tolist() == [[1, 0]]


def big_endian(stored: np.ndarray, kind: int, name: bytes = b"x") -> bytes:
    """A file of one uint16 array as a big-endian machine writes it."""
    body = struct.pack(">IIII", 6, 8, 11, 0) + struct.pack(">IIII", 5, 8, *stored.shape)
    body += struct.pack(">HH4s", len(name), 1, name)
    values = stored.ravel("F").astype(">u2").tobytes()
    body += struct.pack(">II", kind, len(values)) + values + b"\0" * (-len(values) % 8)
    return b" " * 124 + b"\x01\x00MI" + struct.pack(">II", 14, len(body)) + body


def test_the_other_order_of_bytes():
    stored = np.arange(6, dtype=np.uint16).reshape(2, 3) * 1000
    np.testing.assert_array_equal(read_mat(big_endian(stored, 4), "x"), stored)
    with pytest.raises(Unreadable, match=mat.DAMAGED):
        read_mat(big_endian(stored, 9), "x")  # 12 bytes are no float64s


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(mat, "MAX_BYTES", 1000)
    packed = zlib.compress(bytes(10**6))
    data = b" " * 124 + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed
    with pytest.raises(Unreadable, match="too large: more than 1000 bytes"):
        read_mat(data, "x")


def test_endless_nesting_is_refused():
    inner = np.zeros((1, 1))
    for _ in range(mat.MAX_DEPTH + 2):
        cell = np.empty((1, 1), object)
        cell[0, 0], inner = inner, cell
    with pytest.raises(Unreadable, match=mat.DAMAGED):
        read_mat(save(x=inner), "x")


@pytest.mark.parametrize("data", [b"", b"x" * 500, b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_other_files(data):
    with pytest.raises(Unreadable, match="not a MATLAB 5 file"):
        read_mat(data, "x")
