"""DeLVM's bin and meta: the bytes are those its own script writes; lines and meta that do not match are told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from lvmlite.interop.delvm import meta_path, read_delvm, write_delvm
from lvmlite.interop.lines import BadLine, Codes

CODES = Codes(2, 10)
SENTENCES = [[1, 2, 3, 4], [9, 0], [5, 5, 5, 5, 5, 5]]


def published(sentences: list[list[int]]) -> tuple[bytes, np.ndarray]:
    """The file and the meta table as the published script lays them out: (byte offset, number of tokens)."""
    lines = [(json.dumps({"tokens": s}) + "\n").encode() for s in sentences]
    offsets = np.cumsum([0, *(len(one) for one in lines)])[:-1]
    return b"".join(lines), np.array(list(zip(offsets, map(len, sentences))), np.int64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    lines, table = published(SENTENCES)
    (tmp_path / "train.bin").write_bytes(lines)
    with open(tmp_path / "train.bin.meta", "wb") as file:
        np.save(file, table)
    return tmp_path / "train.bin"


def test_round_trip_to_the_byte(path: Path) -> None:
    read = list(read_delvm(path, CODES))
    assert [x.ravel().tolist() for x in read] == SENTENCES  # type: ignore[union-attr]
    made = io.BytesIO()
    table = write_delvm(made, read)  # type: ignore[arg-type]
    lines, expected = published(SENTENCES)
    assert made.getvalue() == lines
    assert np.array_equal(table, expected)
    assert table.dtype == np.int64


def test_the_meta_file_may_be_missing(path: Path) -> None:
    meta_path(path).unlink()
    assert len(list(read_delvm(path, CODES))) == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"tokens": "AAAA"}', '"tokens" is not a list of whole numbers'),
        ('{"tokens": [1, 2.0]}', '"tokens" is not a list of whole numbers'),
        ('{"tokens": [true, false]}', '"tokens" is not a list of whole numbers'),
        ('{"tokens": [1, 99999999999999999999]}', '"tokens" are not 32-bit numbers'),
        ('{"tokens": [1, 2, 3]}', "not whole pictures of 2 tokens"),
        ('{"tokens": [1, 10]}', "a token outside of 0 .. 9"),
        ("tokens", "not JSON"),
    ],
)
def test_a_malformed_line_is_told_with_its_number(path: Path, bad: str, reason: str) -> None:
    meta_path(path).unlink()
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], bad, lines[2]]) + "\n")
    assert list(read_delvm(path, CODES))[1] == BadLine(2, reason)


def test_a_meta_file_of_another_file_is_refused(path: Path) -> None:
    table = np.load(meta_path(path))

    def save(changed: np.ndarray) -> None:
        with open(meta_path(path), "wb") as file:
            np.save(file, changed)

    save(table + np.array([[0, 0], [1, 0], [1, 0]]))
    with pytest.raises(ValueError, match=r"train\.bin\.meta: line 2 of train\.bin begins at byte 25, not as it says"):
        list(read_delvm(path, CODES))
    save(np.concatenate([table, table[-1:]]))
    with pytest.raises(ValueError, match=r"ends after line 3, train\.bin\.meta names 4"):
        list(read_delvm(path, CODES))
    save(table * [1, 2])
    assert list(read_delvm(path, CODES))[1] == BadLine(2, "not as many tokens as the meta file says")
    save(table.astype(np.float32))
    with pytest.raises(ValueError, match="whole numbers expected"):
        list(read_delvm(path, CODES))
    meta_path(path).write_bytes(b"no npy")
    with pytest.raises(ValueError, match=r"meta: not an \.npy file"):
        list(read_delvm(path, CODES))
