"""Small real photos and videos, and what a source gives for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lvmlite.data.sources.base import Reject, Source
from lvmlite.sample import Sample

from .layouts import pictures


@pytest.fixture
def save_photo(tmp_path: Path) -> Callable[..., Path]:
    """save_photo("a/b.png", 3): picture number 3, 40 x 60, different for each number."""

    def save(name: str, number: int = 0, size: tuple[int, int] = (40, 60)) -> Path:
        return pictures.save(tmp_path / "photos" / name, pictures.picture(number, size))

    return save


@pytest.fixture
def save_video(tmp_path: Path) -> Callable[..., Path]:
    """save_video("a.mp4", 60): see `pictures.save_video`."""

    def save(name: str, n: int = 60) -> Path:
        return pictures.save_video(tmp_path / "videos" / name, n)

    return save


@pytest.fixture
def read() -> Callable[[Source], tuple[list[Sample], list[Reject]]]:
    """All samples and rejects of a source."""

    def read(source: Source) -> tuple[list[Sample], list[Reject]]:
        items = [item for part in source.parts() for item in source.samples(part)]
        samples = [item for item in items if isinstance(item, Sample)]
        assert len({sample.key for sample in samples}) == len(samples)
        return samples, [item for item in items if isinstance(item, Reject)]

    return read


@pytest.fixture
def same() -> Callable[[Sample, Sample], bool]:
    """Whether two samples agree in every field and every pixel."""

    def fields(sample: Sample) -> tuple:
        return sample.key, sample.group, sample.source, sample.split, sample.category, len(sample.frames)

    def same(a: Sample, b: Sample) -> bool:
        pairs = zip(a.frames, b.frames, strict=True)
        return fields(a) == fields(b) and all(
            x.keys() == y.keys() and all(x[k].dtype == y[k].dtype and np.array_equal(x[k], y[k]) for k in x)
            for x, y in pairs
        )

    return same
