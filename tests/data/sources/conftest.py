"""Small real photos and videos, and what a source gives for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lvmlite.data.sources.base import Reject, Source
from lvmlite.sample import Sample


@pytest.fixture
def save_photo(tmp_path: Path) -> Callable[..., Path]:
    """save_photo("a/b.png", 3): picture number 3, 40 x 60, different for each number."""

    def save(name: str, number: int = 0, size: tuple[int, int] = (40, 60)) -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return save


@pytest.fixture
def save_video(tmp_path: Path) -> Callable[..., Path]:
    """save_video("a.mp4", 60): frame i is grey 4 i; its index comes first, so that a prefix can be read."""
    import av

    def save(name: str, n: int = 60) -> Path:
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 10
            for i in range(n):
                picture = np.full((48, 64, 3), 4 * i % 256, np.uint8)
                picture[24:] = np.random.default_rng(i).integers(100, 160, (24, 64, 1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode(None))
        return path

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
