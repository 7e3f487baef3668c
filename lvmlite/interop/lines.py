"""Token files of other systems: one sentence a line. What a line must be, and what is said of one that is not.

In: lines of JSON. Out: codes (n, S) of n pictures, or a `BadLine` with its number and the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BadLine:
    """A line that is no sentence. `number` counts from 1."""

    number: int
    reason: str


@dataclass(frozen=True)
class Codes:
    """What codes may be: S a picture, each in [0, codebook_size)."""

    per_picture: int
    codebook_size: int

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        return np.uint16 if self.codebook_size <= 2**16 else np.uint32

    def read(self, line: bytes, number: int, decode: Callable[[Any], np.ndarray]) -> np.ndarray | BadLine:
        """One line as codes (n, S).

        Args:
            decode: what stands under "tokens" -> (N,) int64; raises ValueError with the reason.
        """
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return BadLine(number, "not JSON")
        if not isinstance(entry, dict) or "tokens" not in entry:
            return BadLine(number, 'no "tokens"')
        try:
            tokens = decode(entry["tokens"])
        except ValueError as error:
            return BadLine(number, str(error))
        if len(tokens) == 0 or len(tokens) % self.per_picture:
            return BadLine(number, f"not whole pictures of {self.per_picture} tokens")
        if tokens.min() < 0 or tokens.max() >= self.codebook_size:
            return BadLine(number, f"a token outside of 0 .. {self.codebook_size - 1}")
        return tokens.astype(self.dtype).reshape(-1, self.per_picture)
