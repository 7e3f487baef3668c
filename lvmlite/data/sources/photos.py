"""Source `photos`: image files in a folder, a tar or a zip, as samples of 1 x {image}.

In: the user's own pictures. Out: one sample a photo, or several fixed crops of it; a `Reject` for each file
that cannot be decoded. Folders may name classes and official splits, see `files.Layout`. Everything else is a
function of (seed, name): adding photos changes neither the crops nor the split of the others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import LazyFrames, Part, Reject, Source, chosen_of, parts_of
from lvmlite.data.sources.files import Layout, find_files
from lvmlite.images import Unreadable, decode, shrink
from lvmlite.recipe import Range
from lvmlite.sample import Sample, split_of

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2"),
)


@dataclass(frozen=True)
class PhotosConfig:
    """Settings of `Photos`.

    path: a folder (searched through), or a .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip, read in place.
    crops: samples a photo. The first is the whole photo, others are random crops, half of them mirrored.
    max_samples: at most so many samples. First crops are given up, evenly; then photos, by a hash of the
        name.
    max_side: a photo whose short side is longer is reduced to it when read.
    part_size: photos a part.
    val, test: fractions of photos held out where folders name no official split. A dozen photos may leave
        either empty.
    """

    path: str
    source: Literal["photos"] = "photos"
    name: str = "photos"
    crops: Annotated[int, Range(1)] = 1
    max_samples: Annotated[int, Range(1)] | None = None
    max_side: Annotated[int, Range(1)] = 1024
    part_size: Annotated[int, Range(1)] = 4096
    licence: str = "unknown (user's own pictures)"
    val: Annotated[float, Range(0, 1)] = 0.05
    test: Annotated[float, Range(0, 1)] = 0.05


class Photos(Source):
    """Samples of `PhotosConfig`; `seed` decides the crops."""

    def __init__(self, config: PhotosConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if there is no photo at `config.path`."""
        self.config, self.seed = config, seed
        self.name, self.licence = config.name, config.licence
        self._files = find_files(config.path, SUFFIXES, "photos")
        self._layout = Layout(self._files.names)
        self._names, self._crops = self._files.names, config.crops
        if config.max_samples is not None:
            self._crops = max(1, min(config.crops, config.max_samples // len(self._names)))
            kept = chosen_of(self._names, config.max_samples)
            self._names = [name for name in self._names if name in kept]
        self._known = frozenset(self._names)
        self._last: tuple[str, np.ndarray] | None = None

    def parts(self) -> list[Part]:
        """Parts of `part_size` photos; before them, if listing passed anything over, one part of rejects."""
        return parts_of(self._names, self.config.part_size, self._files.rejects)

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        """Photos are decoded here, once for all their crops: one that cannot be is one `Reject`."""
        for name in part.items:
            if isinstance(name, Reject):
                yield name
                continue
            try:
                self.photo(name)
            except Unreadable as error:
                yield Reject(name, error.reason)
                continue
            for crop in range(self._crops):
                yield self._sample(name, crop)

    def sample(self, key: str) -> Sample:
        name, crop = split_key(key) if self._crops > 1 else (key, 0)
        if name not in self._known or crop >= self._crops or key != self._key(name, crop):
            raise KeyError(key)
        return self._sample(name, crop)

    def photo(self, name: str) -> np.ndarray:
        """A whole photo, uint8 RGB (H, W, 3). The last one read is kept. Raises Unreadable."""
        if self._last is None or self._last[0] != name:
            side = self.config.max_side
            picture = shrink(decode(self._files.open(name), min_size=(side, side)), side)
            self._last = (name, picture)
        return self._last[1]

    def _key(self, name: str, crop: int) -> str:
        return f"{name}#c{crop:03d}" if self._crops > 1 else name

    def _sample(self, name: str, crop: int) -> Sample:
        key = self._key(name, crop)
        return Sample(
            key=key,
            group=name,
            source=self.name,
            split=self._layout.split(name) or split_of(name, self.config.val, self.config.test),
            category=self._layout.category(name),
            frames=CropFrames(self, name, key, crop),
        )

    def frame(self, name: str, key: str, crop: int) -> dict[str, Any]:
        """What `CropFrames` decodes."""
        return {"image": cut(self.photo(name), self.seed, key, crop)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}


@dataclass(frozen=True)
class CropFrames(LazyFrames):
    """The one frame of a crop: `source.frame(name, key, crop)`."""

    source: Any
    name: str
    key: str
    crop: int

    def __len__(self) -> int:
        return 1

    def frame(self, t: int) -> dict[str, Any]:
        found: dict[str, Any] = self.source.frame(self.name, self.key, self.crop)
        return found


def split_key(key: str) -> tuple[str, int]:
    """ "a/b.jpg#c003" -> ("a/b.jpg", 3). Raises KeyError."""
    match = re.fullmatch(r"(.+)#c(\d{3,})", key, re.DOTALL)
    if match is None:
        raise KeyError(key)
    return match[1], int(match[2])


def cut(x: np.ndarray, seed: int, key: str, crop: int) -> np.ndarray:
    """Crop number `crop` of a picture or map (H, W[, C]): 0 is all of it, others are drawn from (seed, key).

    The side is 0.35 to 1 of the short side, the aspect 3/4 to 4/3, mirrored with probability 1/2. A map of
    the same (H, W) is cut alike.
    """
    if crop == 0:
        return x.copy()
    height, width = x.shape[:2]
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    rng = np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))
    scale, log_aspect, top, left, mirror = rng.random(5)
    side = (0.35 + 0.65 * scale) * min(height, width)
    aspect = (4 / 3) ** (2 * log_aspect - 1)  # width / height
    h = min(height, max(1, round(side / aspect**0.5)))
    w = min(width, max(1, round(side * aspect**0.5)))
    y, x0 = int(top * (height - h + 1)), int(left * (width - w + 1))
    box = x[y : y + h, x0 : x0 + w]
    return np.ascontiguousarray(box[:, ::-1] if mirror < 0.5 else box)
