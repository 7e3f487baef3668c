"""Still images: bytes nobody has checked -> uint8 RGB (H, W, 3) or `Unreadable`; and PNG bytes back.

Pictures that hold numbers (class ids, depth) come out of `decode_map` as the numbers that were stored. Broken files are
common in scraped data sets, so what a decoder may do is fenced in: few formats, a limit on pixels that holds before
they are allocated, no truncated picture taken for whole, nothing on the terminal.
"""

from __future__ import annotations

import io
import logging
import math
import os
import struct
import threading
import tokenize
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

MAX_PIXELS = 178_956_970  # Pillow's own limit; holds here too where a program has lifted Pillow's
# Photos only: no format that starts another program (EPS), none that nobody keeps photos in.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")
# What Pillow may raise on malformed files; the test flips and cuts bytes to check that this is all.
DECODER_ERRORS: tuple[type[Exception], ...] = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError),
    *(RuntimeError, MemoryError, struct.error, zlib.error),
)
NUMPY_MAGIC = b"\x93NUMPY"
LOG_NOWHERE = logging.NullHandler()
STDERR = threading.Lock()  # whoever redirects file descriptor 2


class Unreadable(ValueError):
    """Input that cannot be decoded. `reason` is short, the same for the same fault, and can be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes | str | os.PathLike[str], min_size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an image file to uint8 RGB (H, W, 3).

    EXIF orientation is applied. Transparency is composited on white. An animation gives its first frame.
    16-bit grey is divided by 257, grey of more bits clipped to 16 first; float grey is read as [0, 1], or as
    8 or 16 bits where a value exceeds 1 or 255. 16-bit colour keeps its high byte.

    Args:
        data: the file's bytes, or its path.
        min_size: (height, width) that suffice. A bigger JPEG may come back reduced by 2, 4 or 8, never below
            `min_size`: several times faster for photos straight from a camera, and deterministic.

    Raises:
        Unreadable: "not an image", "truncated file", "damaged file", "too large: ..." (refused before its
            pixels are allocated), "empty file", "cannot read: ...".
    """
    return _decode(data, _colours, min_size)


def decode_map(data: bytes | str | os.PathLike[str], ids: bool = True) -> np.ndarray:
    """Decode a picture that holds numbers, such as class ids or depth, without turning them into colours.

    EXIF orientation is applied, transparency is dropped. A NumPy file (.npy) of numbers is read likewise.

    Args:
        data: the file's bytes, or its path.
        ids: the numbers stored: indices of a palette, 0 .. 15 of 4-bit grey. Else the brightness shown: colours of
            a palette, 4-bit grey spread over 0 .. 255.

    Returns:
        (H, W), or of colours (H, W, 3): bool of 1-bit grey, uint8, uint16, int32 of more bits or PPM, float32. A NumPy
        file may have any number of channels and any type of integer.

    Raises:
        Unreadable: as `decode`; "not a map of numbers" where colours are not RGB or a NumPy file has other values.
    """
    return _decode(data, _numbers if ids else _brightness, None)


def _decode(
    data: bytes | str | os.PathLike[str], take: Callable[[Any], np.ndarray], min_size: tuple[int, int] | None
) -> np.ndarray:
    if isinstance(data, bytes):
        return _decode_stream(io.BytesIO(data), take, min_size)
    try:
        file = open(data, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Unreadable(f"cannot read: {getattr(error, 'strerror', None) or error}") from error
    with file:
        return _decode_stream(file, take, min_size)


def _decode_stream(file: IO[bytes], take: Callable[[Any], np.ndarray], min_size: tuple[int, int] | None) -> np.ndarray:
    """`take` loads an opened PIL image and gives its pixels as stored, not yet upright."""
    from PIL import Image, UnidentifiedImageError

    logging.getLogger("PIL").addHandler(LOG_NOWHERE)  # else its log goes to stderr; adding twice does nothing
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # a build of Pillow may lack some
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage that we either report or can live with
        try:
            if take is not _colours and file.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC:
                return _numpy_array(file)
            file.seek(0)
            with Image.open(file, formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                if min_size is not None and image.format in ("JPEG", "MPO"):
                    height, width = min_size if _orientation(image) < 5 else min_size[::-1]
                    image.draft(None, (max(1, width), max(1, height)))
                return _upright(take(image), _orientation(image))
        except Unreadable:
            raise
        except Image.DecompressionBombError as error:
            raise Unreadable(f"too large: more than {MAX_PIXELS} pixels") from error
        except UnidentifiedImageError as error:
            raise Unreadable("not an image" if file.seek(0, io.SEEK_END) else "empty file") from error
        except MemoryError as error:
            raise Unreadable("too large: out of memory") from error
        except DECODER_ERRORS as error:
            cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
            raise Unreadable("truncated file" if cut else "damaged file") from error


def _load(image: Any) -> None:
    with _quiet(image.format == "TIFF"):
        image.load()


def _colours(image: Any) -> np.ndarray:
    """An opened PIL image -> uint8 RGB (H, W, 3)."""
    _load(image)
    return np.array(_rgb(image))


def _numbers(image: Any) -> np.ndarray:
    """An opened PIL image -> the numbers stored, see `decode_map`."""
    raw = [tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in image.tile if tile[3]]
    bits = next((int(mode[2]) for mode in raw if mode in ("L;2", "L;4")), 8)
    _load(image)
    pixels = _channels(image)
    return pixels // (255 // (2**bits - 1)) if bits < 8 else pixels  # Pillow has spread them over 0 .. 255


def _brightness(image: Any) -> np.ndarray:
    """An opened PIL image -> the brightness or colours shown, see `decode_map`."""
    _load(image)
    return _channels(image.convert("RGB") if image.mode in ("P", "PA") else image)


def _channels(image: Any) -> np.ndarray:
    """A loaded PIL image -> its channels but for transparency, in the machine's byte order."""
    pixels = np.array(image)
    if image.mode in ("LA", "La", "PA"):
        pixels = pixels[..., 0]
    elif image.mode in ("RGB", "RGBA", "RGBa", "RGBX"):
        pixels = pixels[..., :3]
    elif pixels.ndim != 2:
        raise Unreadable("not a map of numbers")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _numpy_array(file: IO[bytes]) -> np.ndarray:
    """A NumPy file after its magic -> (H, W) or (H, W, C); nothing is allocated that the file does not hold."""
    from numpy.lib import format as numpy_format

    file.seek(0)
    version = numpy_format.read_magic(file)
    read = {(1, 0): numpy_format.read_array_header_1_0, (2, 0): numpy_format.read_array_header_2_0}[version]
    try:
        shape, fortran_order, dtype = read(file)
    except tokenize.TokenError as error:
        raise Unreadable("damaged file") from error
    if dtype.kind not in "buif" or len(shape) not in (2, 3) or min(shape) < 1:
        raise Unreadable("not a map of numbers")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise Unreadable(f"too large: more than {MAX_PIXELS} pixels")
    start = file.tell()
    if file.seek(0, io.SEEK_END) - start < math.prod(shape) * dtype.itemsize:
        raise Unreadable("truncated file")
    file.seek(start)
    array = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
    array = array.reshape(shape, order="F" if fortran_order else "C")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return np.array(array, np.float32 if dtype.kind == "f" else dtype.newbyteorder("="), order="C")


@contextmanager
def _quiet(on: bool) -> Iterator[None]:
    """Send file descriptor 2 nowhere: libtiff, written in C, prints what it dislikes about a damaged file."""
    if not on:
        yield
        return
    with STDERR:
        saved = os.dup(2)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _orientation(image: Any) -> int:
    """EXIF orientation 1 .. 8; 1 where the EXIF block is absent or broken: the picture itself may be fine."""
    try:
        value = image.getexif().get(0x0112, 1)
    except DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _upright(x: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels (H, W, 3) as EXIF tag 274 says."""
    if orientation in (5, 6, 7, 8):
        x = x.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    cols = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(x[::rows, ::cols])


def _rgb(image: Any) -> Any:
    """A loaded PIL image of any mode -> PIL image of mode RGB."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_grey8(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        if image.mode in ("La", "RGBa"):
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _grey8(grey: np.ndarray) -> np.ndarray:
    """Grey of more than 8 bits, (H, W) integer or float -> uint8 (H, W)."""
    scale = 1 / 257
    if grey.dtype.kind == "f":
        top = np.max(grey, initial=0, where=np.isfinite(grey))
        scale = 255 if top <= 1 else 1 if top <= 255 else scale
    out = np.empty(grey.shape, np.uint8)
    for y in range(0, len(grey), 64):  # in strips: the picture may be huge
        strip = np.nan_to_num(grey[y : y + 64].astype(np.float64), posinf=0, neginf=0)
        out[y : y + 64] = np.clip(np.rint(strip * scale), 0, 255)
    return out


def check(image: np.ndarray) -> None:
    """Assert that a picture is uint8 RGB (H, W, 3)."""
    shape = image.shape
    assert image.dtype == np.uint8, image.dtype
    assert len(shape) == 3, shape
    assert shape[2] == 3, shape


def encode_png(image: np.ndarray) -> bytes:
    """PNG bytes of a uint8 RGB picture (H, W, 3). The same picture gives the same bytes."""
    from PIL import Image

    check(image)
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()
