"""LVM's token file: read back as written, the bytes are the released ones', a bad line is told by number."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvmlite.interop.lines import BadLine, Codes
from lvmlite.interop.lvm import read_lvm, write_lvm

CODES = Codes(4, 100)


def line(tokens: list[int], dtype: str = "<i4") -> bytes:
    """As the released code writes it: json.dumps of base64 of an int32 array."""
    return json.dumps({"tokens": base64.b64encode(np.array(tokens, dtype).tobytes()).decode()}).encode() + b"\n"


@given(st.lists(st.lists(st.integers(0, 99), min_size=4, max_size=24).map(lambda x: x[: len(x) // 4 * 4]), min_size=1))
def test_round_trip_to_the_byte(sentences: list[list[int]]) -> None:
    made = io.BytesIO()
    assert write_lvm(made, [np.array(s, np.uint16).reshape(-1, 4) for s in sentences]) == len(sentences)
    assert made.getvalue() == b"".join(line(s) for s in sentences)


def test_read_gives_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line([1, 2, 3, 99, 5, 6, 7, 8]) + b"\n" + line([0, 0, 0, 0]))
    first, second = read_lvm(path, CODES)
    assert isinstance(first, np.ndarray)
    assert first.dtype == np.uint16
    assert first.tolist() == [[1, 2, 3, 99], [5, 6, 7, 8]]
    assert np.array_equal(second, np.zeros((1, 4)))
    assert Codes(4, 70_000).dtype is np.uint32


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"tokens": "AAAA\n', "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[1, 2]\n", 'no "tokens"'),
        (b'{"token": ""}\n', 'no "tokens"'),
        (b'{"tokens": [1, 2, 3, 4]}\n', '"tokens" is not base64 text'),
        (b'{"tokens": "###"}\n', '"tokens" is not base64 text'),
        (b'{"tokens": "AAAA"}\n', '"tokens" are not whole 32-bit numbers'),
        (line([1, 2, 3]), "not whole pictures of 4 tokens"),
        (line([]), "not whole pictures of 4 tokens"),
        (line([1, 2, 3, 100]), "a token outside of 0 .. 99"),
        (line([1, 2, 3, -1]), "a token outside of 0 .. 99"),
    ],
)
def test_a_malformed_line_is_told_with_its_number(tmp_path: Path, bad: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line([1, 2, 3, 4]) + bad + line([5, 6, 7, 8]))
    found = list(read_lvm(path, CODES))
    assert found[1] == BadLine(2, reason)
    assert [x.tolist() for x in (found[0], found[2])] == [[[1, 2, 3, 4]], [[5, 6, 7, 8]]]  # type: ignore[union-attr]
