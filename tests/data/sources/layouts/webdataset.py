"""Tar shards of samples."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

from . import pictures

SIZE = (20, 30)


def picture(number: int, kind: str = "PNG") -> bytes:
    return pictures.as_bytes(pictures.picture(number, SIZE), kind)


def mask(value: int, size: tuple[int, int] = SIZE) -> bytes:
    return pictures.as_bytes(np.full(size, value, np.uint8))


def shard(path: Path, members: list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def simple(n: int, start: int = 0) -> list[tuple[str, bytes]]:
    """n samples "00000" ...: a picture and a class."""
    numbers = range(start, start + n)
    return [m for i in numbers for m in ((f"{i:05d}.png", picture(i)), (f"{i:05d}.cls", b"%d\n" % (i % 3)))]
