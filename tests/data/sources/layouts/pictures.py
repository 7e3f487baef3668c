"""Pictures and videos that layouts are made of."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Picture `number`, uint8 RGB (H, W, 3): noise, different for each number."""
    return np.random.default_rng(number).integers(0, 256, (*shape, 3)).astype(np.uint8)


def as_bytes(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def save(path: Path, pixels: np.ndarray, dtype: type = np.uint8, palette: bool = False) -> Path:
    """Write a picture or map. `palette`: as indices of colours that have nothing to do with the index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels.astype(dtype))
    if palette:
        image.putpalette([(37 * i) % 256 for i in range(768)])
    image.save(path)
    return path


def save_video(path: Path, n: int = 60) -> Path:
    """n frames of 48 x 64: frame i is grey 4 i above, noise below. Its index comes first: a prefix can be read."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 10
        for i in range(n):
            frame = np.full((48, 64, 3), 4 * i % 256, np.uint8)
            frame[24:] = np.random.default_rng(i).integers(100, 160, (24, 64, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return path
