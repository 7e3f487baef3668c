"""Randomness without state: numbers that are functions of integers, and a keyed bijection.

In: a seed and counters. Out: uniform integers, and permutations of range(n) evaluated at any position.

The mixing function is splitmix64's finaliser (Steele, Lea, Flood 2014). The bijection is a Feistel network over
a x b >= n, the two nearly square (Black, Rogaway 2002, "generalised Feistel"), walked until the value falls inside
range(n): a x b exceeds n by 2 sqrt(n) at most, so few values walk. Up to 64 items a network shows its structure, and
hashes are sorted instead. Measured over keys: values and neighbouring pairs of values are uniform (tests).
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

U64 = np.uint64
ROUNDS = 6
SORTED = 64  # items up to which hashes are sorted


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
    """The random choices of n sentences: counter-based on (key, sentence number, name of the choice).

    Attributes:
        key: of the sentence type. sentences: (n,) int64, their numbers.
        epochs: (n, m) int64, the epoch of each item of each sentence; 0 where none are given.
    """

    def __init__(self, key: int, sentences: np.ndarray, epochs: np.ndarray | None = None):
        self.key, self.sentences = key, sentences
        self.epochs = np.zeros((len(sentences), 1), np.int64) if epochs is None else epochs

    def of(self, which: np.ndarray) -> Draws:
        """The same choices, for some of the sentences."""
        return Draws(self.key, self.sentences[which], self.epochs[which])

    def integers(self, name: str, bounds: np.ndarray) -> np.ndarray:
        """One integer in [0, bound) for each sentence, (n,) int64."""
        return uniform_integers(key_of(self.key, name), self.sentences, bounds)


def permute(keys: np.ndarray, positions: np.ndarray, n: int) -> np.ndarray:
    """Where each position goes under the permutation of range(n) that its key names.

    Args:
        keys: (m,) uint64, one permutation each; neighbouring keys are as different as any.
        positions: (m,) int64 in [0, n); n below 2^60.

    Returns:
        (m,) int64; for a fixed key, a bijection of range(n).
    """
    if len(keys) and (keys == keys[0]).all():  # the usual case: one epoch
        unique, which = keys[:1], np.zeros(len(keys), np.int64)
    else:
        unique, which = np.unique(keys, return_inverse=True)
    with np.errstate(over="ignore"):
        if n <= SORTED:
            order = np.argsort(mix(mix(unique)[:, None] ^ np.arange(n, dtype=U64)), axis=1, kind="stable")
            return order[which, positions]
        rounds = mix(mix(unique) ^ np.arange(ROUNDS, dtype=U64)[:, None])
        rounds = rounds if len(unique) == 1 else rounds[:, which]
        columns = math.isqrt(n - 1) + 1
        sides = U64(-(-n // columns)), U64(columns)
        out = positions.astype(U64)
        todo = np.arange(len(out))
        while len(todo):
            out[todo] = _network(rounds if rounds.shape[1] == 1 else rounds[:, todo], out[todo], *sides)
            todo = todo[out[todo] >= U64(n)]
    return out.astype(np.int64)


def permute_each(keys: np.ndarray, positions: np.ndarray, n: np.ndarray) -> np.ndarray:
    """`permute` where each position has a range of its own: keys (m,) uint64, positions and n (m,) int64."""
    out = np.empty(len(positions), np.int64)
    small = n <= SORTED
    with np.errstate(over="ignore"):
        if small.any():
            pairs, which = np.unique(np.stack((keys[small], n[small].astype(U64))), axis=1, return_inverse=True)
            noise = mix(mix(pairs[0])[:, None] ^ np.arange(SORTED, dtype=U64))
            noise = np.where(np.arange(SORTED) < pairs[1].astype(np.int64)[:, None], noise >> U64(1), U64(2**64 - 1))
            out[small] = np.argsort(noise, axis=1, kind="stable")[which.ravel(), positions[small]]
        todo = np.flatnonzero(~small)
        rounds = mix(mix(keys) ^ np.arange(ROUNDS, dtype=U64)[:, None])
        columns = np.ceil(np.sqrt(n.astype(np.float64))).astype(np.int64)
        values, sides = positions.astype(U64), (-(-n // np.maximum(columns, 1))).astype(U64)
        while len(todo):
            values[todo] = _network(rounds[:, todo], values[todo], sides[todo], columns[todo].astype(U64))
            ready = values[todo] < n[todo].astype(U64)
            out[todo[ready]] = values[todo[ready]].astype(np.int64)
            todo = todo[~ready]
    return out


def _network(rounds: np.ndarray, values: np.ndarray, a: Any, b: Any) -> np.ndarray:
    """A bijection of range(a * b) for each column of rounds (ROUNDS, m): each half is moved by a hash of the other.

    a and b are uint64, one for all or (m,)."""
    left, right = np.divmod(values, b)
    for r in range(0, ROUNDS, 2):
        left = (left + _below(a, right ^ rounds[r])) % a
        right = (right + _below(b, left ^ rounds[r + 1])) % b
    return left * b + right


def _below(bound: Any, x: np.ndarray) -> np.ndarray:
    """A hash of uint64 x in [0, bound), bound at most 2^32. Half of `mix`: the round keys are mixed already."""
    x = x * U64(0xBF58476D1CE4E5B9)
    x ^= x >> U64(32)
    x *= U64(0xBF58476D1CE4E5B9)
    x >>= U64(32)
    return (x * bound) >> U64(32)
