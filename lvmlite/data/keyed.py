"""Randomness without state: numbers that are functions of integers, and a keyed bijection.

In: a seed and counters. Out: uniform integers, and permutations of range(n) evaluated at any position.

The mixing function is splitmix64's finaliser (Steele, Lea, Flood 2014). The bijection is a balanced Feistel network
over the next even number of bits, walked until the value falls inside range(n) (cycle walking; Black, Rogaway 2002).
"""

from __future__ import annotations

import hashlib

import numpy as np

U64 = np.uint64
ROUNDS = 6


def mix(x: np.ndarray) -> np.ndarray:
    """A bijection of uint64 whose outputs look independent."""
    x = (x + U64(0x9E3779B97F4A7C15)).astype(U64)
    x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB)
    return x ^ (x >> U64(31))


def key_of(*parts: int | str) -> int:
    """A 64-bit key of any names and numbers."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def uniform_integers(key: int, counters: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """An integer in [0, bound) for every counter: (n,) int64. Bounds stay below 2^32."""
    with np.errstate(over="ignore"):
        high = mix(mix(counters.astype(U64)) ^ U64(key)) >> U64(32)
        return ((high * bounds.astype(U64)) >> U64(32)).astype(np.int64)


class Draws:
    """The random choices of n sentences: counter-based on (key, sentence number, name of the choice)."""

    def __init__(self, key: int, sentences: np.ndarray):
        self.key, self.sentences = key, sentences

    def integers(self, name: str, bounds: np.ndarray) -> np.ndarray:
        """One integer in [0, bound) for each sentence, (n,) int64."""
        return uniform_integers(key_of(self.key, name), self.sentences, bounds)


def permute(keys: np.ndarray, positions: np.ndarray, n: int) -> np.ndarray:
    """Where each position goes under the permutation of range(n) that its key names.

    Args:
        keys: (m,) uint64, one permutation each.
        positions: (m,) int64 in [0, n).

    Returns:
        (m,) int64; for a fixed key, a bijection of range(n).
    """
    half = U64(max(1, (max(1, n - 1).bit_length() + 1) // 2))
    low = (U64(1) << half) - U64(1)
    out = positions.astype(U64)
    todo = np.arange(len(out))
    with np.errstate(over="ignore"):
        while len(todo):
            value, key = out[todo], keys[todo]
            left, right = value >> half, value & low
            for r in range(ROUNDS):
                left, right = right, left ^ (mix(right ^ mix(key + U64(r))) & low)
            out[todo] = value = (left << half) | right
            todo = todo[value >= U64(n)]
    return out.astype(np.int64)
