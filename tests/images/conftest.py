"""Small real videos, made with PyAV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """make_video("a.mp4", n=60): frame i is grey 4 i, its top left quarter black; rotation in degrees."""
    import av

    def make(
        name: str, n: int = 60, size: tuple[int, int] = (48, 64), audio: bool = False, rotation: int = 0, **kw: Any
    ) -> Path:
        height, width = size
        with av.open(str(tmp_path / name), "w", **kw) as container:
            stream = container.add_stream("mpeg4" if name.endswith("avi") else "libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", 10
            stream.bit_rate = 400_000
            if rotation:
                stream.set_display_rotation(rotation)
            sound = container.add_stream("aac", rate=16000) if audio else None
            rng = np.random.default_rng(0)
            for i in range(n):
                picture = np.full((height, width, 3), 4 * i % 256, np.uint8)
                picture[height // 2 :] = rng.integers(0, 2, (height - height // 2, width, 1)) * 60 + 100
                picture[: height // 2, : width // 2] = 0
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
                if sound:
                    wave = av.AudioFrame.from_ndarray(np.zeros((1, 640), np.float32), "fltp", "mono")
                    wave.sample_rate, wave.pts = 16000, 640 * i
                    container.mux(sound.encode(wave))
            for each in filter(None, (stream, sound)):
                container.mux(each.encode(None))
        return tmp_path / name

    return make


@pytest.fixture
def make_sound(tmp_path: Path) -> Callable[[str], Path]:
    """An audio file without any picture."""
    import av

    def make(name: str) -> Path:
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("aac", rate=16000)
            for i in range(20):
                wave = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                wave.sample_rate, wave.pts = 16000, 1024 * i
                container.mux(stream.encode(wave))
            container.mux(stream.encode(None))
        return tmp_path / name

    return make
