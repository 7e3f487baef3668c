"""People put together from joints and limbs that were found in a picture.

In: per kind of joint the places found, and where the colour of each limb is seen. Out: people with one place per joint.
Greedy, as OpenPose does it with its affinity fields (Cao et al., TPAMI 2021); here the limbs are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NECK = 1
_LEAST = 0.5  # of a limb must be seen where nothing hides it


class _Groups:
    """Joints that belong together; no group holds two joints of one kind."""

    def __init__(self, kinds: np.ndarray) -> None:
        self.root = list(range(len(kinds)))
        self.held = [1 << int(kind) for kind in kinds]

    def find(self, i: int) -> int:
        while self.root[i] != i:
            self.root[i] = i = self.root[self.root[i]]
        return i

    def join(self, i: int, j: int) -> bool:
        """Make two groups one if no kind of joint is in both; whether i and j are now together."""
        i, j = self.find(i), self.find(j)
        if i != j and not self.held[i] & self.held[j]:
            self.root[j] = i
            self.held[i] |= self.held[j]
            return True
        return i == j


def assemble(
    found: Sequence[np.ndarray],
    limbs: Sequence[tuple[int, int]],
    seen_limbs: Sequence[np.ndarray],
    painted: np.ndarray,
    radius: float,
) -> np.ndarray:
    """Joints to people, those with most joints first.

    Joints are joined by limbs, the best seen first; then, for want of limbs, to the nearest group that lacks them, up
    to half the picture's side away.

    Args:
        found: per kind of joint (n, 2) x, y.
        limbs: which two kinds each limb connects.
        seen_limbs: per limb (H, W) bool, where its colour is.
        painted: (H, W) bool, where any stroke is, which may hide a limb.
        radius: of a joint; it hides the ends of limbs.

    Returns:
        (N, kinds, 3) float32: x, y, 2 where there is a joint, else 0, 0, 0.
    """
    kinds = np.repeat(np.arange(len(found)), [len(places) for places in found])
    places = np.concatenate(found)
    groups = _Groups(kinds)

    edges = []
    for number, (a, b) in enumerate(limbs):
        for i in np.flatnonzero(kinds == a).tolist():
            for j in np.flatnonzero(kinds == b).tolist():
                seen = _share_seen(places[i], places[j], seen_limbs[number], painted, radius)
                if seen >= _LEAST:
                    edges.append((-seen, float(np.hypot(*(places[i] - places[j]))), number, i, j))
    used = set()
    for _, _, number, i, j in sorted(edges):
        if (number, i) not in used and (number, j) not in used and groups.join(i, j):
            used |= {(number, i), (number, j)}

    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    near = np.argwhere(np.triu(apart <= min(painted.shape) / 2, 1))
    for i, j in near[np.argsort(apart[near[:, 0], near[:, 1]], kind="stable")].tolist():
        groups.join(i, j)

    roots = np.array([groups.find(i) for i in range(len(kinds))], dtype=np.int64)
    names, index, sizes = np.unique(roots, return_inverse=True, return_counts=True)
    people = np.zeros((len(names), len(found), 3), np.float32)
    people[index, kinds, :2] = places
    people[index, kinds, 2] = 2
    return people[np.argsort(-sizes, kind="stable")]


def _share_seen(start: np.ndarray, end: np.ndarray, limb: np.ndarray, painted: np.ndarray, radius: float) -> float:
    """Of a limb from `start` to `end` and what is not hidden of it, the share that is seen; `_LEAST`, which is weak,
    if all is hidden, as between joints that touch."""
    length = float(np.hypot(*(end - start)))
    if length <= 2 * radius + 1:
        return _LEAST
    t = np.arange(radius + 0.5, length - radius, 0.5) / length
    columns, rows = np.floor(start + t[:, None] * (end - start)).astype(np.int64).T
    seen = limb[rows, columns]
    missing = ~seen & ~painted[rows, columns]
    counted = int(seen.sum() + missing.sum())
    return float(seen.sum() / counted) if counted else _LEAST
