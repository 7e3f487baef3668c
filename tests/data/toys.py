"""A source, tasks, a tokenizer and stores so small that every pixel and token says where it came from."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvmlite.data.sources.base import Part, Reject, Source
from lvmlite.data.store import ShardWriter, Store, StoreInfo, write_json
from lvmlite.images import Geometry, Unreadable
from lvmlite.sample import Sample
from lvmlite.tasks.base import Task
from lvmlite.tokenizers.base import Tokenizer

SIZE = 8
GEOMETRY = Geometry(SIZE, "squash")


# --- a source


@dataclass(frozen=True)
class Item:
    """What becomes a sample: pixels are (number, t, 7) modulo 256; `label`: annotated; `fault`: unreadable."""

    number: int
    split: str = "train"
    frames: int = 1
    label: bool = True
    category: str | None = None
    key: str = ""
    fault: str = ""


@dataclass(frozen=True)
class ToyConfig:
    name: str = "toy"
    parts: tuple[tuple[str, tuple[Item, ...]], ...] = ()


class Frames(Sequence[dict[str, Any]]):
    """Decoded when indexed; the last frame of a faulty one is not readable."""

    def __init__(self, item: Item) -> None:
        self.item = item

    def __len__(self) -> int:
        return self.item.frames

    def __getitem__(self, t: Any) -> Any:
        if self.item.fault and t == len(self) - 1:
            raise Unreadable(self.item.fault)
        frame: dict[str, Any] = {"image": picture(self.item.number, t)}
        if self.item.label:
            frame["label"] = np.full((SIZE, SIZE), self.item.number % 256, np.uint8)
        return frame


class Toy(Source):
    """TOY_SLEEP seconds a sample; a line in the file TOY_LOG each time."""

    licence = "CC0-1.0"
    annotations: tuple[str, ...] = ("label",)

    def __init__(self, config: ToyConfig, seed: int = 0) -> None:
        self.config, self.seed, self.name = config, seed, config.name

    def parts(self) -> list[Part]:
        return [Part(name, items) for name, items in self.config.parts]

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        for item in part.items:
            time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
            if log := os.environ.get("TOY_LOG"):
                with open(log, "a") as file:
                    file.write(f"{os.getpid()}\n")
            key = item.key or str(item.number)
            if item.fault == "reject":
                yield Reject(key, "rejected by the source")
            else:
                yield Sample(key, f"group {key}", self.name, item.split, item.category, Frames(item))

    def sample(self, key: str) -> Sample:
        raise KeyError(key)


def picture(number: int, t: int) -> np.ndarray:
    return np.broadcast_to(np.array([number % 256, t % 256, 7], np.uint8), (SIZE, SIZE, 3))


def toy(n_parts: int = 3, per_part: int = 4, name: str = "toy", **item: Any) -> Toy:
    """Items 0, 1, 2, ... in parts of `per_part`."""
    numbers = [range(p * per_part, (p + 1) * per_part) for p in range(n_parts)]
    parts = [(f"{p:03d}", tuple(Item(n, **item) for n in some)) for p, some in enumerate(numbers)]
    return Toy(ToyConfig(name, tuple(parts)))


# --- kinds


class Label(Task):
    """Draws the native label: (label, variant, 9)."""

    annotation = "label"

    def __init__(self, variants: int = 1) -> None:
        self.variants = variants

    def render(
        self, annotation: Any, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        return np.stack([annotation, np.full_like(annotation, variant), np.full_like(annotation, 9)], axis=2)

    def read(self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None) -> Any:
        return picture[..., 0]


class Noise(Task):
    """Derived from the photo with random pixels."""

    def __init__(self, variants: int = 1) -> None:
        self.variants = variants

    def derive(self, image: np.ndarray, rng: np.random.Generator) -> Any:
        return image + rng.integers(0, 100, image.shape).astype(np.uint8)

    def render(
        self, annotation: Any, variant: int = 0, split: str = "train", image: np.ndarray | None = None
    ) -> np.ndarray:
        return annotation

    def read(self, picture: np.ndarray, variant: int = 0, split: str = "train", image: np.ndarray | None = None) -> Any:
        return picture


KINDS: dict[str, Task] = {"label": Label(3), "noise": Noise(2)}
SETTINGS = {"label": {"task": "label", "variants": 3}, "noise": {"task": "noise", "variants": 2}}


# --- a tokenizer


class ToyTokenizer(Tokenizer):
    """Codes of 8 px pictures on a 1 x 3 grid: the three channels of the middle pixel, + shift, modulo 256."""

    kind, codebook_size, grid, image_size = "toy", 256, (1, 3), SIZE

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(float(shift)))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return ((images[:, :, 4, 4] * 255).round().long() + int(self.shift)) % 256

    def decode(self, tokens: Tensor) -> Tensor:
        return (tokens.float() / 255)[:, :, None, None].expand(-1, -1, SIZE, SIZE)

    def settings(self) -> dict[str, Any]:
        return {}

    def code_state(self) -> dict[str, Tensor]:
        return {"shift": self.shift}


# --- token stores, written directly

K, S = 64, 3  # tokens of a picture are its number in base K
LENGTHS = Sequence[int]


@dataclass
class Made:
    """A store and what the picture of each number is: (shard, kind, variant, row)."""

    store: Store
    pictures: list[tuple[str, str, int, int]] = field(default_factory=list)

    def numbers(self, **wanted: Any) -> set[int]:
        """Numbers of the pictures of a kind, variant, or shards whose name begins so."""
        shard, kind, variant = (wanted.get(name) for name in ("shard", "kind", "variant"))
        return {
            i
            for i, (s, k, v, _) in enumerate(self.pictures)
            if (shard is None or s.startswith(shard)) and kind in (None, k) and variant in (None, v)
        }


def make_store(
    path: Path,
    shards: Sequence[tuple[str, str, LENGTHS, dict[str, int]]],
    fingerprint: str = "code",
    first: int = 0,
    about: Mapping[str, dict[str, Any]] | None = None,
    categories: Sequence[Sequence[str | None]] | None = None,
) -> Made:
    """A token store of (source, split, frames of each sample, kind -> variants); pictures are numbered from `first`.

    `about`: source -> more of what a store says of it; `categories`: for each shard, of each sample.
    """
    pictures: list[tuple[str, str, int, int]] = []
    infos = []
    for i, (source, split, lengths, columns) in enumerate(shards):
        name = f"{source}.{i}"
        with ShardWriter(path / name, source, split, columns) as writer:
            for s, n in enumerate(lengths):
                writer.add_sample(f"{i}/{s}", f"{i}/{s}", categories[i][s] if categories else None, n)
            for kind, variants in columns.items():
                for v in range(variants):
                    start, n = first + len(pictures), sum(lengths)
                    pictures += [(name, kind, v, row) for row in range(n)]
                    writer.append(kind, v, digits(np.arange(start, start + n)).astype(np.uint16))
            infos.append(writer.finish())
    sources = {source: {"licence": "CC0-1.0"} | (about or {}).get(source, {}) for source, *_ in shards}
    kinds = {kind: {} for *_, columns in shards for kind in columns if kind != "image"}
    info = StoreInfo("tokens", asdict(GEOMETRY), kinds, sources, [1, S], K, fingerprint, {}, infos)
    write_json(path / "store.json", asdict(info))
    return Made(Store.open(path), pictures)


def digits(numbers: np.ndarray) -> np.ndarray:
    return np.stack([numbers // K**2, numbers // K % K, numbers % K], axis=-1)


def number_of(tokens: np.ndarray) -> np.ndarray:
    """Tokens (..., n * S) -> picture numbers (..., n)."""
    x = tokens.reshape(*tokens.shape[:-1], -1, S).astype(np.int64)
    return x[..., 0] * K**2 + x[..., 1] * K + x[..., 2]


# --- folders


def tree(folder: Path) -> dict[str, str]:
    """Every file of a folder but the lock: name -> sha256."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
