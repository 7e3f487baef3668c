"""The released LVM's token file: JSON lines ``{"tokens": "<base64 of little-endian int32>"}``, a sentence a line.

In: sentences, codes (n, S) of n pictures, raster order, codes only. Out: the file, and back. Writing what was read
gives the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lvmlite.interop.lines import BadLine, Codes


def read_lvm(path: Path, codes: Codes) -> Iterator[np.ndarray | BadLine]:
    """Every line as codes (n, S), or what is wrong with it. Empty lines are passed over. Raises OSError."""
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield codes.read(line, number, _decode)


def write_lvm(file: BinaryIO, sentences: Iterable[np.ndarray]) -> int:
    """Write sentences, integers (n, S); gives how many."""
    n = 0
    for sentence in sentences:
        text = base64.b64encode(np.ascontiguousarray(sentence, "<i4").tobytes()).decode("ascii")
        file.write(json.dumps({"tokens": text}).encode("ascii") + b"\n")
        n += 1
    return n


def _decode(text: Any) -> np.ndarray:
    if not isinstance(text, str):
        raise ValueError('"tokens" is not base64 text')
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError('"tokens" is not base64 text') from None
    if len(data) % 4:
        raise ValueError('"tokens" are not whole 32-bit numbers')
    return np.frombuffer(data, "<i4").astype(np.int64)
