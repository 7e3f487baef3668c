"""Pictures as people have them -> the pictures a tokenizer takes.

In: PIL pictures, uint8 arrays, paths or the bytes of a file, in nested lists or not. Out: uint8 (N, size, size, 3),
and the size each picture came with, so that an answer can be mapped back to it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lvmlite.images import Geometry, Unreadable, decode
from lvmlite.images.still import DECODER_ERRORS

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112  # EXIF


class Pictures(NamedTuple):
    fitted: np.ndarray  # (N, size, size, 3) uint8
    shapes: list[tuple[int, int]]  # (H, W) of each before fitting


def read_pictures(pictures: Any, geometry: Geometry, name: str = "prompt") -> Pictures:
    """Decode and fit pictures.

    Args:
        pictures: one picture or a list of them, nested as is handy: ``[(a, a_edges), b]`` is a, a_edges, b. A picture
            is a PIL image, an array (H, W, 3) uint8 RGB, the path of a file or its bytes. An array (N, H, W, 3) is N.
        geometry: of the model.
        name: what errors call the list.

    Raises:
        ValueError: ``prompt picture 2: ...``, counted from 0; what it is, and what it must be.
    """
    fitted, shapes = [], []
    for i, picture in enumerate(_flat(pictures)):
        try:
            array = _array(picture)
        except Unreadable as error:
            file = f" ({os.fspath(picture)})" if isinstance(picture, str | os.PathLike) else ""
            raise ValueError(f"{name} picture {i}{file}: {error.reason}") from None
        except ValueError as error:
            raise ValueError(f"{name} picture {i}: {error}") from None
        fitted.append(geometry.image(array))
        shapes.append((array.shape[0], array.shape[1]))
    empty = np.empty((0, geometry.size, geometry.size, 3), np.uint8)
    return Pictures(np.stack(fitted) if fitted else empty, shapes)


def _flat(pictures: Any) -> Iterator[Any]:
    if isinstance(pictures, list | tuple) or (isinstance(pictures, np.ndarray) and pictures.ndim == 4):
        for entry in pictures:
            yield from _flat(entry)
    else:
        yield pictures


def _array(picture: Any) -> np.ndarray:
    """uint8 RGB (H, W, 3). Raises ValueError that says what it got."""
    from PIL import Image

    if isinstance(picture, str | bytes | os.PathLike):
        return decode(picture)
    if isinstance(picture, Image.Image):
        return _from_pil(picture)
    if not isinstance(picture, np.ndarray):
        raise ValueError(f"is a {type(picture).__name__}; give a PIL image, a uint8 array (H, W, 3), a path or bytes")
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"shape {picture.shape}; a uint8 RGB array (H, W, 3) is expected")
    if picture.dtype != np.uint8:
        raise ValueError(f"type {picture.dtype}; convert to uint8 in 0..255")
    return picture


def _from_pil(picture: Image.Image) -> np.ndarray:
    """What its file would give: other modes and turned photos go through the decoder of files."""
    try:
        if picture.mode == "RGB" and picture.getexif().get(ORIENTATION, 1) == 1:
            return np.array(picture)
        data = io.BytesIO()
        form = "PNG" if picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF"
        picture.save(data, form, exif=picture.getexif())
    except DECODER_ERRORS as error:
        raise ValueError(f"cannot be read: {error}") from None
    return decode(data.getvalue())
