"""The bench: what every protocol gets. Pictures, the sources that know their truth, seeded draws, and what is measured:
a tokenizer, or a model with it.

In: a tokenizer or an opened model, the PixelStore and the TokenStore of the same rows, sources by name, a run folder
and a seed. Out: frames drawn by group, their codes and pictures, native truth, and PNGs under `evaluation/`.

Prompts are drawn from train, queries from test. Splits are made of whole groups, so no prompt is of a query's group.
Legend: N frames, S codes of a picture, H = W = size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from lvmlite.data.build import IMAGE, stable_rng
from lvmlite.data.keyed import key_of
from lvmlite.data.sources.base import Source
from lvmlite.data.store import Shard, Store
from lvmlite.evaluate.results import Cell
from lvmlite.images import Geometry, encode_png
from lvmlite.tasks.base import Task
from lvmlite.tokenizers.base import Tokenizer, decode_tokens, encode_pictures

if TYPE_CHECKING:
    from lvmlite.generate.lvm import LVM

FOLDER = "evaluation"
T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """One frame of a sample: where its row lies, and whose it is. `shard` counts through the store's shards."""

    source: str
    split: str
    shard: int
    row: int
    key: str
    group: str
    t: int


class Pool:
    """The samples of one source and split, by group.

    Args:
        shards: (number in the store, shard) of those to draw from.
        min_frames: samples with fewer are left out.
    """

    def __init__(self, shards: Sequence[tuple[int, Shard]], source: str, split: str, min_frames: int = 1):
        self.source, self.split = source, split
        self.groups: dict[str, list[tuple[int, int, int, str]]] = {}  # group -> (shard, start, n_frames, key)
        for number, shard in shards:
            for (start, n, _), (key, group) in zip(shard.samples(), shard.keys(), strict=True):
                if n >= min_frames:
                    self.groups.setdefault(group, []).append((number, int(start), int(n), key))
        self.names = list(self.groups)

    def __len__(self) -> int:
        """Number of groups: how many independent draws there are."""
        return len(self.groups)

    def draw(self, n: int, rng: np.random.Generator) -> list[Frame]:
        """One frame of each of n groups, in random order; of all groups if there are fewer."""
        return [clip[0] for clip in self.clips(min(n, len(self)), rng)]

    def clips(self, n: int, rng: np.random.Generator, frames: int = 1, stride: int = 1) -> list[list[Frame]]:
        """n different clips of consecutive frames at a stride, all groups once before any group twice; fewer if there
        are no more.

        Samples must be long enough: see `min_frames`.
        """
        span = (frames - 1) * stride
        ends = {name: np.cumsum([length - span for _, _, length, _ in some]) for name, some in self.groups.items()}
        used: dict[str, set[int]] = {}
        open_groups, out = self.names, list[list[Frame]]()
        while len(out) < n and open_groups:
            some = min(n - len(out), len(open_groups))
            for i in rng.choice(len(open_groups), some, replace=False):
                group = open_groups[i]
                taken = used.setdefault(group, set())
                while (window := int(rng.integers(ends[group][-1]))) in taken:
                    pass
                taken.add(window)
                at = int(np.searchsorted(ends[group], window, side="right"))
                number, start, length, key = self.groups[group][at]
                assert length > span, f"{key} has {length} frames, {span + 1} are needed"
                times = window - int(ends[group][at]) + length - span + stride * np.arange(frames)
                out.append([Frame(self.source, self.split, number, start + int(t), key, group, int(t)) for t in times])
            open_groups = [group for group in open_groups if len(used.get(group, ())) < ends[group][-1]]
        return out


class TokenizerBench:
    """Everything that a tokenizer is measured with.

    Args:
        tokenizer: on its device; tasks: by kind; geometry: how pictures are fitted.
        pixels: the pictures; sources: by name, asked for native truth only.
        run: the run folder; pictures go to its `evaluation/`.
        seed: of every draw.
        tokens: the store of codes, if `pixels` were encoded with this tokenizer; else they are encoded when asked for.
        split: whose pictures are measured.

    Attributes:
        size: S. columns: codes in a row of a picture.

    Raises:
        ValueError: the store was written by another tokenizer, the two stores do not belong together, or the pictures
            are not of the tokenizer's size.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tasks: Mapping[str, Task],
        geometry: Geometry,
        pixels: Store,
        sources: Mapping[str, Source],
        run: Path,
        seed: int = 0,
        tokens: Store | None = None,
        split: str = "test",
    ):
        if tokens is not None:
            tokens.check_tokenizer(tokenizer.code_fingerprint)
            rows = [(shard.info.name, shard.info.n_frames) for shard in tokens.shards]
            if rows != [(shard.info.name, shard.info.n_frames) for shard in pixels.shards]:
                raise ValueError(f"{tokens.path}: not encoded from {pixels.path}; build the store again")
        if pixels.info.geometry["size"] != tokenizer.image_size:
            raise ValueError(
                f"{pixels.path}: pictures of {pixels.info.geometry['size']} px, the tokenizer reads "
                f"{tokenizer.image_size} px"
            )
        self.tokenizer, self.tasks, self.geometry = tokenizer, tasks, geometry
        self.pixels, self.tokens, self.sources = pixels, tokens, sources
        self.run, self.seed, self.split = run, seed, split
        self.size, self.columns = tokenizer.n_tokens, tokenizer.grid[1]
        self._pools: dict[tuple[Any, ...], Pool] = {}
        self._shared: dict[Any, Any] = {}
        self._sample = lru_cache(maxsize=64)(lambda source, key: self._source(source).sample(key))

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.tokenizer.device

    @property
    def dtype(self) -> torch.dtype:
        """What it is done in."""
        return torch.float32

    # --- draws

    def rng(self, *names: str | int) -> np.random.Generator:
        """A generator that depends on the seed and the names only."""
        return stable_rng(self.seed, "evaluate", *names)

    def shared(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gives, made once in a run: two protocols that need the same answers sample them once."""
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found

    def pool(self, split: str, source: str, kinds: Sequence[str] = (), min_frames: int = 1) -> Pool:
        """The samples of a source whose frames have all the kinds.

        Raises:
            ValueError: there is none.
        """
        key = (split, source, tuple(kinds), min_frames)
        if key not in self._pools:
            shards = [(i, s) for i, s in self._shards(split, source) if set(kinds) <= set(s.info.columns)]
            pool = Pool(shards, source, split, min_frames)
            if not pool:
                having = f" with {', '.join(kinds)}" if kinds else ""
                long = f" of {min_frames} frames" if min_frames > 1 else ""
                raise ValueError(f"{self.pixels.path}: source '{source}' has no {split} samples{long}{having}")
            self._pools[key] = pool
        return self._pools[key]

    def has(self, split: str, source: str, kinds: Sequence[str] = (), min_frames: int = 1) -> bool:
        """Whether `pool` would find anything."""
        try:
            return bool(self.pool(split, source, kinds, min_frames))
        except ValueError:
            return False

    def source_names(self) -> list[str]:
        """The sources in the store, in its order."""
        return list(dict.fromkeys(shard.info.source for shard in self.pixels.shards))

    def kinds(self, source: str, split: str = "test") -> list[str]:
        """The kinds that are known here and some samples of a source have, in the order of `tasks`."""
        present = {kind for _, shard in self._shards(split, source) for kind in shard.info.columns}
        return [kind for kind in self.tasks if kind in present]

    def variants(self, kind: str, source: str, split: str = "test") -> int:
        """How many variants of a kind every shard of a source holds; 0 if none has the kind."""
        counts = [s.info.columns[kind] for _, s in self._shards(split, source) if kind in s.info.columns]
        return min(counts, default=0)

    def _shards(self, split: str, source: str) -> list[tuple[int, Shard]]:
        return [
            (i, shard)
            for i, shard in enumerate(self.pixels.shards)
            if (shard.info.split, shard.info.source) == (split, source) and shard.info.n_frames
        ]

    # --- what frames look like

    def codes(self, frames: Sequence[Frame], kind: str = IMAGE, variant: int = 0) -> np.ndarray:
        """(N, S) int64, straight from the store of codes, or encoded now."""
        if self.tokens is None:
            return self.encode(self.pictures(frames, kind, variant))
        rows = [self.tokens.shards[f.shard].column(kind, variant)[f.row] for f in frames]
        return np.array(rows, np.int64).reshape(len(frames), self.size)

    def pair_codes(self, frames: Sequence[Frame], kind: str, variant: int = 0) -> np.ndarray:
        """(N, 2, S) int64: photo, annotation. Reshaped to (N * 2 * S,) it is a prompt."""
        return np.stack((self.codes(frames), self.codes(frames, kind, variant)), axis=1)

    def pictures(self, frames: Sequence[Frame], kind: str = IMAGE, variant: int = 0) -> np.ndarray:
        """(N, H, W, 3) uint8, straight from the store: before the tokenizer."""
        size = self.tokenizer.image_size
        rows = [self.pixels.shards[f.shard].column(kind, variant)[f.row] for f in frames]
        return np.array(rows, np.uint8).reshape(len(frames), size, size, 3)

    def truth(self, frame: Frame, kind: str) -> Any:
        """The annotation itself, fitted: native from the source; of a derived kind, as the store's picture reads."""
        task = self.tasks[kind]
        if task.annotation is None:
            return task.read(self.pictures([frame], kind)[0], image=self.pictures([frame])[0])
        native = self._sample(frame.source, frame.key).frames[frame.t]
        return task.fit(native[task.annotation], self.geometry, native[IMAGE].shape[:2])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(..., S) integer codes -> (..., H, W, 3) uint8."""
        pictures = decode_tokens(self.tokenizer, codes.reshape(-1, self.size))
        return pictures.reshape(*codes.shape[:-1], *pictures.shape[1:])

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 -> (N, S) int64."""
        return encode_pictures(self.tokenizer, pictures).astype(np.int64)

    def _source(self, name: str) -> Source:
        if name not in self.sources:
            raise ValueError(f"no source '{name}' to ask for the truth; there are {', '.join(self.sources)}")
        return self.sources[name]

    # --- pictures for the report

    def cell(self, name: str, pictures: np.ndarray, label: str = "", generated: bool = False) -> Cell:
        """Save a still (H, W, 3), or the frames (T, H, W, 3) of an animation, uint8, as PNGs called after `name`."""
        folder = self.run / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        stills = [(f"{name}.png", pictures)]
        if pictures.ndim == 4:
            stills = [(f"{name}-{t}.png", picture) for t, picture in enumerate(pictures)]
        for file, picture in stills:
            (folder / file).write_bytes(encode_png(picture))
        return Cell([file for file, _ in stills], label, generated)


class Bench(TokenizerBench):
    """Everything a model is measured with.

    Args:
        lvm: the model: its engine, tokenizer, tasks by kind, geometry and info are used.
        tokens: the store of codes; pixels: the PixelStore it was encoded from.
        sources, run, seed: of `TokenizerBench`.

    Attributes:
        max_pictures: the trained context.

    Raises:
        ValueError: as `TokenizerBench`.
    """

    tokens: Store

    def __init__(self, lvm: LVM, tokens: Store, pixels: Store, sources: Mapping[str, Source], run: Path, seed: int = 0):
        super().__init__(lvm.tokenizer, lvm.tasks, lvm.geometry, pixels, sources, run, seed, tokens)
        self.lvm, self.engine = lvm, lvm.engine
        self.max_pictures = int(lvm.info.get("pictures") or self.engine.context // self.size)

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @property
    def dtype(self) -> torch.dtype:
        return self.engine.dtype

    def sampling_seed(self, *names: str | int) -> int:
        """A seed for the engine's noise, which depends on the seed and the names only."""
        return key_of(self.seed, "evaluate", *names) % 2**63


def check_apart(prompts: Sequence[Frame], queries: Sequence[Frame]) -> None:
    """Prompts come from train, queries from test, and no group is in both.

    Raises:
        ValueError: a group is in two splits of the store.
    """
    assert {f.split for f in prompts} <= {"train"}, "prompts come from train"
    assert {f.split for f in queries} <= {"test"}, "queries come from test"
    both = {(f.source, f.group) for f in prompts} & {(f.source, f.group) for f in queries}
    if both:
        source, group = min(both)
        raise ValueError(f"group '{group}' of source '{source}' is both in train and in test; build the store again")
