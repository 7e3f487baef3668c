"""Pictures as people have them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lvmlite.generate.prompt import read_pictures
from lvmlite.images import Geometry, decode, encode_png

GEOMETRY = Geometry(size=16)


def picture(height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_every_form_gives_the_same_picture(tmp_path: Path) -> None:
    a = picture()
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(a))
    forms = [a, Image.fromarray(a), Image.open(path), path, str(path), path.read_bytes()]
    fitted, shapes = read_pictures(forms, GEOMETRY)
    assert fitted.shape == (6, 16, 16, 3)
    assert fitted.dtype == np.uint8
    assert shapes == [(20, 30)] * 6
    assert all(np.array_equal(f, GEOMETRY.image(a)) for f in fitted)


def test_nesting_is_read_in_order() -> None:
    a, b, c = (picture(16, 16, i) for i in range(3))
    flat = read_pictures([a, b, c], GEOMETRY).fitted
    for nested in ([(a, b), c], [[a], [[b, c]]], (a, [b, c]), np.stack([a, b, c]), [np.stack([a, b]), c]):
        assert np.array_equal(read_pictures(nested, GEOMETRY).fitted, flat)
    assert np.array_equal(read_pictures(a, GEOMETRY).fitted, flat[:1])
    assert read_pictures([], GEOMETRY).fitted.shape == (0, 16, 16, 3)
    assert read_pictures([[], [a]], GEOMETRY).shapes == [(16, 16)]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB"])
def test_pil_images_of_any_mode(mode: str) -> None:
    base = Image.fromarray(picture(16, 16)).convert("L" if mode in ("I;16", "I", "F", "LAB") else mode)
    image = base
    if mode == "LAB":
        image = Image.merge("LAB", (base, base, base))
    elif mode in ("I;16", "I", "F"):
        grey = np.asarray(base).astype(np.int32) * 257
        image = Image.fromarray(grey.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    fitted, _ = read_pictures([image], GEOMETRY)
    if mode in ("1", "L", "P", "YCbCr", "CMYK"):
        assert np.array_equal(fitted[0], np.asarray(image.convert("RGB")))
    if mode in ("I;16", "I", "F"):
        assert np.array_equal(fitted[0], np.asarray(base.convert("RGB")))


def test_an_opened_photo_is_turned_like_its_file(tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(path, exif=exif)
    fitted, shapes = read_pictures([path, Image.open(path)], GEOMETRY)
    assert shapes == [(30, 20)] * 2
    assert np.array_equal(fitted[0], fitted[1])


def test_transparency_is_white_as_in_files() -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert (read_pictures([image], GEOMETRY).fitted == 255).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((64, 64), np.uint8), r"prompt picture 2: shape \(64, 64\); a uint8 RGB array \(H, W, 3\)"),
        (np.zeros((64, 64, 4), np.uint8), r"prompt picture 2: shape \(64, 64, 4\)"),
        (np.zeros((0, 64, 3), np.uint8), r"prompt picture 2: shape \(0, 64, 3\)"),
        (np.zeros((64, 64, 3), np.float32), "prompt picture 2: type float32; convert to uint8 in 0..255"),
        (7, "prompt picture 2: is a int; give a PIL image"),
        (None, "prompt picture 2: is a NoneType"),
        ("nowhere.png", r"prompt picture 2 \(nowhere.png\): cannot read: No such file"),
        (b"text", "prompt picture 2: not an image"),
        (b"", "prompt picture 2: empty file"),
        (encode_png(picture())[:-500], "prompt picture 2: truncated file"),
    ],
)
def test_mistakes_name_the_picture(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_pictures([(picture(), picture()), wrong], GEOMETRY)
    assert "\n" not in str(error.value)


def test_a_pil_image_of_a_truncated_file() -> None:
    image = Image.open(io.BytesIO(encode_png(picture())[:-500]))
    with pytest.raises(ValueError, match=r"target picture 0: cannot be read: .*truncated"):
        read_pictures(image, GEOMETRY, "target")


def test_the_geometry_of_the_model_is_applied() -> None:
    a = picture(20, 40)
    for fit in ("squash", "crop", "pad"):
        geometry = Geometry(size=8, fit=fit)
        assert np.array_equal(read_pictures([encode_png(a)], geometry).fitted[0], geometry.image(a))
    assert decode(encode_png(a)).shape == (20, 40, 3)
