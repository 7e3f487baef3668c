"""Palette search: colours of classes that survive a given tokenizer.

In: a tokenizer and maps of class ids. Out: a table of colours whose ceiling, the mIoU of maps drawn, encoded, decoded
and read again, is higher than that of every palette known here, on those maps; whether it is so on others is to be
measured on others.

A pixel is read as another class because a flat colour comes back as another one, because the blend of two colours at
a border lies near a third, or because a region is smaller than a token. `spread` looks at the first alone: of a
lattice of colours passed through the tokenizer, greedily those that are told apart with the largest margin
(farthest-point sampling; Gonzalez, 1985). Which class gets which of them matters as much: several random orders are
tried. `climb` then works on the ceiling itself, which knows all three, and which classes lie side by side: a class
takes another colour, or two exchange theirs, and what does not raise it is undone. With many classes and few maps that
fits the maps rather than the tokenizer: a quarter of them is held back, and decides between its end and its beginnings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject, Source, digest
from lvmlite.data.store import write_json
from lvmlite.evaluate.ceiling import through
from lvmlite.images import Geometry, Unreadable
from lvmlite.metrics.segmentation import MeanIoU
from lvmlite.sample import Sample
from lvmlite.tasks import palettes
from lvmlite.tasks.segmentation import Segmentation
from lvmlite.tokenizers.base import Tokenizer

Through = Callable[[np.ndarray], np.ndarray]  # pictures (N, H, W, 3) uint8 -> what comes back of them, likewise
Distance = Literal["l1", "l2"]
LEVELS = 9  # of a channel of the lattice: 729 colours, 32 apart
_ORDERS = 16  # in which the colours of `spread` are given to the classes, by chance
_BATCH = 16  # maps after which a move that has not helped is given up
_NEAR = 48  # how far a colour is moved, at most, when it is moved a little


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        table: (n_classes + 1, 3) uint8 as in tasks/palettes.py, unlabelled black.
        score: its mIoU on the maps held back, of the classes that are there.
        start: the name of the table it began with, the best on the other maps: "spread", "orders" or a named palette.
        starts: every table it could have begun with, and its mIoU on those held back. "orders" is the best of several.
        kept: "climbed", or the name of one of `starts` that was better on the maps held back.
        history: (step, mIoU on the other maps) of every move that was kept.
    """

    table: np.ndarray
    score: float
    start: str
    starts: dict[str, tuple[np.ndarray, float]]
    kept: str
    history: list[tuple[int, float]]


def search_palette(
    tokenizer: Tokenizer,
    n_classes: int,
    maps: np.ndarray,
    *,
    seed: int = 0,
    steps: int = 500,
    distance: Distance = "l1",
    progress: Callable[[int, float], None] | None = None,
) -> Found:
    """Search for a palette: `climb` from the best of `spread`, of its colours in 16 random orders, and of the named
    palettes, on three quarters of the maps; then the best of all these on the last quarter.

    Args:
        maps: (N, H, W) ids of any integer type, up to n_classes, 0 = unlabelled, of the tokenizer's `image_size`; N of
            train alone, since the palette is fitted to them.
        seed: of the moves and the order of maps; the same seed finds the same palette.
        steps: moves tried.
        distance: by which colours are read.
        progress: called after each move with the moves tried and the mIoU so far.

    Raises:
        ValueError: no map has a class, an id is above n_classes, or the lattice has too few colours for the classes.
    """
    colours = lattice()
    if n_classes > len(colours) - 2:
        raise ValueError(f"a palette is searched for up to {len(colours) - 2} classes, not {n_classes}")
    if not maps.any() or int(maps.max()) > n_classes:
        raise ValueError(f"a palette of {n_classes} classes needs maps with ids of 1 to {n_classes}")

    def back(pictures: np.ndarray) -> np.ndarray:
        return through(tokenizer, pictures)

    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(maps)
    fitted, held_back = (shuffled[np.arange(len(maps)) % 4 != 3], shuffled[3::4])
    if not (fitted.any() and held_back.any()):
        fitted = held_back = shuffled

    def draw(table: np.ndarray, on: np.ndarray = fitted) -> Painting:
        return Painting.of(back, on, table, distance)

    apart = spread(colours, flat(back, colours, tokenizer.image_size), n_classes, distance)
    orders = (np.concatenate([apart[:1], rng.permutation(apart[1:])]) for _ in range(_ORDERS))
    drawn = {"spread": draw(apart), "orders": max(map(draw, orders), key=lambda painting: painting.score)}
    drawn |= {name: draw(table) for name, table in known_palettes(n_classes).items()}
    start = max(drawn, key=lambda name: drawn[name].score)
    best, history = climb(back, drawn[start], colours, rng, steps, progress)
    ends = {"climbed": best.table} | {name: painting.table for name, painting in drawn.items()}
    judged = {name: (table, draw(table, held_back).score) for name, table in ends.items()}
    kept = max(judged, key=lambda name: judged[name][1])  # of equals the one climbed to
    table, score = judged[kept]
    return Found(table, score, start, {name: judged[name] for name in drawn}, kept, history)


# --- the start: colours alone


def lattice(levels: int = LEVELS) -> np.ndarray:
    """All colours of `levels` even steps a channel, (levels^3, 3) uint8; the first is black, that of unlabelled."""
    steps = np.rint(np.linspace(0, 255, levels)).astype(np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)


def flat(through: Through, colours: np.ndarray, size: int, batch: int = 64) -> np.ndarray:
    """What comes back of pictures of one colour, size x size: the mean, (n, 3) float64."""
    means = []
    for at in range(0, len(colours), batch):
        pictures = colours[at : at + batch, None, None].repeat(size, 1).repeat(size, 2)
        means.append(through(pictures).mean((1, 2), dtype=np.float64))
    return np.concatenate(means)


def spread(colours: np.ndarray, back: np.ndarray, n_classes: int, distance: Distance = "l1") -> np.ndarray:
    """Greedily the colours with the largest margin: (n_classes + 1, 3) uint8, after black, which is colours[0].

    The margin of i against j is how much nearer to i than to j that lies which comes back of i; of a pair, the
    smaller of both. Each colour has the largest margin, to the one so far that it is told apart from worst; of equals
    the first.

    Args:
        colours: (n, 3) uint8, n > n_classes. back: (n, 3), what comes back of them.
    """
    gaps = np.stack([_gap(back, colour, distance) for colour in colours], axis=1)  # (came back, colour)
    margin = gaps - np.diag(gaps)[:, None]
    margin = np.minimum(margin, margin.T)
    chosen, least = [0], np.full(len(colours), np.inf)
    for _ in range(n_classes):
        least = np.minimum(least, margin[chosen[-1]])
        least[chosen[-1]] = -np.inf
        chosen.append(int(least.argmax()))
    return colours[chosen]


def known_palettes(n_classes: int) -> dict[str, np.ndarray]:
    """The named palettes that have so many colours and black for unlabelled."""
    enough = [name for name, n in palettes.COLOURS.items() if n >= n_classes]
    tables = {name: palettes.canonical(name, n_classes) for name in ("distinct", *enough)}
    return {name: table for name, table in tables.items() if not table[0].any()}


# --- the climb: the ceiling itself


@dataclass(frozen=True)
class Painting:
    """Maps drawn with a table, what came back of them, and how it is read.

    Attributes:
        maps: (N, H, W) ids; table: (K + 1, 3) uint8; distance: by which colours are read.
        pictures: (N, H, W, 3) uint8, what came back. read: (N, H, W) ids; gaps: (N, H, W), how far each pixel is from
            the colour it is read as.
        states: (N, 3, K + 1) of `MeanIoU`, one a map.
    """

    maps: np.ndarray
    table: np.ndarray
    distance: Distance
    pictures: np.ndarray
    read: np.ndarray
    gaps: np.ndarray
    states: np.ndarray

    @classmethod
    def of(cls, through: Through, maps: np.ndarray, table: np.ndarray, distance: Distance = "l1") -> Painting:
        pictures = through(table[maps])
        read = _read(pictures, table, distance)
        gaps = _gap(pictures, table[read], distance)
        return cls(maps, table, distance, pictures, read, gaps, _states(read, maps, len(table)))

    @property
    def score(self) -> float:
        """mIoU of the classes that are there."""
        return _score(self.states)

    def losses(self) -> np.ndarray:
        """(K + 1,) 1 - IoU of each class that is there; 0 of the others, and of unlabelled."""
        right, truth, read = self.states.sum(0)
        there = (truth > 0) & (np.arange(len(truth)) > 0)
        return np.where(there, 1 - right / np.maximum(truth + read - right, 1), 0.0)

    def moved(self, through: Through, table: np.ndarray, changed: list[int]) -> Painting | None:
        """The same maps with a table that differs in the rows `changed`; None if the mIoU does not rise.

        Only maps that hold a changed class pass through the tokenizer, a few at a time, for as long as they help. Of
        the others those pixels are read again that were read as a changed class, or lie as near to one by now.
        """
        score, n = self.score, len(table)
        pictures, read, gaps, states = (x.copy() for x in (self.pictures, self.read, self.gaps, self.states))
        holds = np.isin(self.maps, changed).any((1, 2))
        rows = np.flatnonzero(holds)
        for at in range(0, len(rows), _BATCH):
            some = rows[at : at + _BATCH]
            pictures[some] = through(table[self.maps[some]])
            read[some] = _read(pictures[some], table, self.distance)
            gaps[some] = _gap(pictures[some], table[read[some]], self.distance)
            states[some] = _states(read[some], self.maps[some], n)
            if _score(states) <= score:
                return None
        again = np.isin(read, changed)
        for k in changed:
            again |= _gap(pictures, table[k], self.distance) <= gaps
        again[holds] = False
        if again.any():
            read[again] = _read(pictures[again][None, None], table, self.distance).reshape(-1)
            gaps[again] = _gap(pictures[again], table[read[again]], self.distance)
            some = np.flatnonzero(again.any((1, 2)))
            states[some] = _states(read[some], self.maps[some], n)
        moved = Painting(self.maps, table, self.distance, pictures, read, gaps, states)
        return moved if moved.score > score else None


def climb(
    through: Through,
    start: Painting,
    colours: np.ndarray,
    rng: np.random.Generator,
    steps: int,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Painting, list[tuple[int, float]]]:
    """Hill climbing: `steps` moves tried, each kept only if the mIoU rises. The last painting, and every rise."""
    now, history = start, []
    for step in range(1, steps + 1):
        if now.losses().any() and (moved := now.moved(through, *propose(now, colours, rng))) is not None:
            now = moved
            history.append((step, now.score))
        if progress:
            progress(step, now.score)
    return now, history


def propose(now: Painting, colours: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """A move: another table, and the rows in which it differs.

    A class is drawn by what its IoU lacks of 1. As often as not it exchanges its colour with any other class, moves it
    a little, or takes one of `colours`, drawn by how far it is from all that are taken.
    """
    lost, table = now.losses(), now.table.copy()
    a = int(rng.choice(len(lost), p=lost / lost.sum()))
    kind = rng.choice(["exchange", "little", "other"])
    if kind == "exchange" and len(table) > 2:
        b = int(rng.choice(np.delete(np.arange(1, len(table)), a - 1)))
        table[[a, b]] = table[[b, a]]
        return table, [a, b]
    if kind == "little":
        colours = np.clip(table[a] + rng.integers(-_NEAR, _NEAR + 1, (len(colours), 3)), 0, 255).astype(np.uint8)
    room = np.min([_gap(colours, taken, "l1") for taken in table], axis=0)
    weight = room > 0 if kind == "little" else room
    table[a] = colours[rng.choice(len(colours), p=weight / weight.sum())]
    return table, [a]


def _read(pictures: np.ndarray, table: np.ndarray, distance: Distance) -> np.ndarray:
    """Ids (N, H, W) of pictures (N, H, W, 3)."""
    n, height, width, _ = pictures.shape
    return palettes.nearest(pictures.reshape(n * height, width, 3), table, distance).reshape(n, height, width)


def _gap(a: np.ndarray, b: np.ndarray, distance: Distance) -> np.ndarray:
    """From colours (..., 3) to colours (..., 3) that broadcast: int32 of uint8, else float64."""
    whole = a.dtype == b.dtype == np.uint8
    difference = np.subtract(a, b, dtype=np.int32 if whole else np.float64)
    return np.abs(difference).sum(-1) if distance == "l1" else (difference * difference).sum(-1)


def _score(states: np.ndarray) -> float:
    """The mean of IoU over classes that are there.

    `MeanIoU` also counts those only read, as 0. On few maps that would be the larger part of it, and colours of classes
    that no map holds would be moved to where nothing is read as they are, their own regions elsewhere included.
    """
    right, truth, read = states.sum(0)[:, 1:]
    there = truth > 0
    return float((right[there] / (truth + read - right)[there]).mean())


def _states(read: np.ndarray, maps: np.ndarray, n: int) -> np.ndarray:
    """(N, 3, n) of `MeanIoU`, one a map."""
    states = np.zeros((len(maps), 3, n))
    for state, prediction, truth in zip(states, read, maps, strict=True):
        counted = MeanIoU.measure(prediction, truth)
        state[:, : counted.shape[1]] = counted
    return states


# --- maps of a recipe, and the file


def fitted_maps(
    sources: Sequence[Source], task: Segmentation, geometry: Geometry, split: str, most: int | None = None
) -> tuple[np.ndarray, list[str], int]:
    """The fitted maps of a split, of the first frame of each sample; `most` of them, chosen by a hash of the key.

    Returns:
        maps (N, H, W) integer ids; their N groups; how many samples could not be read or have an id without a colour.

    Raises:
        ValueError: none can be read.
    """
    assert task.annotation is not None, "segmentation draws a native annotation"
    samples: list[Sample] = []
    for source in sources:
        found = (sample for part in source.parts() for sample in source.samples(part))
        samples += [sample for sample in found if not isinstance(sample, Reject) and sample.split == split]
    samples.sort(key=lambda sample: digest(f"{sample.source}/{sample.key}"))
    maps: list[np.ndarray] = []
    groups: list[str] = []
    unreadable = 0
    for sample in samples:
        if len(maps) == most:
            break
        try:
            frame = sample.frames[0]
            if task.annotation not in frame:
                continue
            fitted = task.fit(frame[task.annotation], geometry, frame["image"].shape[:2])
            palettes.require(fitted, task.palette(), "segmentation")
        except Unreadable:
            unreadable += 1
            continue
        maps.append(fitted)
        groups.append(sample.group)
    if not maps:
        raise ValueError(f"no map of '{task.annotation}' for {split}: {len(samples)} samples, {unreadable} unreadable")
    return np.stack(maps), groups, unreadable


def save_palette(path: Path, found: Found, tokenizer: Tokenizer, about: dict[str, Any]) -> None:
    """Write a palette as `palette: FILE.json` of a recipe reads it, and beside its colours what it was made for.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        path,
        {
            "colours": found.table[1:].tolist(),
            "tokenizer": {"code": tokenizer.code_fingerprint, "decoder": tokenizer.decoder_fingerprint},
            "search": {
                **about,
                "start": found.start,
                "starts": {name: score for name, (_, score) in found.starts.items()},
                "train_miou": found.score,
                "moves_kept": len(found.history),
            },
        },
    )
