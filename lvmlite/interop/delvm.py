"""DeLVM's token file: ``train.bin``, lines ``{"tokens": [1, 2, ...]}``, and ``train.bin.meta``, .npy of int64 (N, 2).

Row i of the meta file is (byte at which line i begins, number of its tokens). In: sentences, codes (n, S) of n
pictures. Out: both files, and back. Writing what was read gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lvmlite.interop.lines import BadLine, Codes


def meta_path(path: Path) -> Path:
    """ "train.bin" -> "train.bin.meta"."""
    return path.with_name(f"{path.name}.meta")


def read_delvm(path: Path, codes: Codes) -> Iterator[np.ndarray | BadLine]:
    """Every line as codes (n, S), or what is wrong with it.

    Raises:
        ValueError: the meta file is damaged or belongs to another file. OSError.
    """
    meta = _read_meta(meta_path(path)) if meta_path(path).exists() else None
    at = number = 0
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if meta is not None and (number > len(meta) or meta[number - 1, 0] != at):
                raise ValueError(f"{meta_path(path)}: line {number} of {path.name} begins at byte {at}, not as it says")
            found = codes.read(line, number, _decode)
            if meta is not None and not isinstance(found, BadLine) and found.size != meta[number - 1, 1]:
                found = BadLine(number, "not as many tokens as the meta file says")
            yield found
            at += len(line)
    if meta is not None and number != len(meta):
        raise ValueError(f"{path}: ends after line {number}, {meta_path(path).name} names {len(meta)}")


def write_delvm(file: BinaryIO, sentences: Iterable[np.ndarray]) -> np.ndarray:
    """Write the lines of sentences, integers (n, S); gives the meta table (N, 2) int64, for `np.save`."""
    table, at = [], 0
    for sentence in sentences:
        line = json.dumps({"tokens": sentence.ravel().tolist()}).encode("ascii") + b"\n"
        file.write(line)
        table.append((at, sentence.size))
        at += len(line)
    return np.array(table, np.int64).reshape(-1, 2)


def _read_meta(path: Path) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            meta: np.ndarray = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not an .npy file ({error})") from None
    if meta.ndim != 2 or meta.shape[1] != 2 or meta.dtype.kind not in "iu":
        raise ValueError(f"{path}: (N, 2) whole numbers expected, this is {meta.shape} {meta.dtype}")
    return meta


def _decode(tokens: Any) -> np.ndarray:
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise ValueError('"tokens" is not a list of whole numbers')
    if any(abs(token) >= 2**31 for token in tokens):
        raise ValueError('"tokens" are not 32-bit numbers')
    return np.array(tokens, np.int64)
