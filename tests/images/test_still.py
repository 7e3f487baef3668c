"""Still images: every mode comes out as 8-bit RGB, and every broken file as `Unreadable`."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lvmlite.images import MAX_PIXELS, Unreadable, decode, encode_png


@pytest.fixture
def photo() -> np.ndarray:
    """A smooth picture (48, 64, 3), so that JPEG keeps it within a few levels."""
    y, x = np.mgrid[:48, :64]
    return np.stack([y * 5, x * 3.5, 255 - y * 2 - x * 2], -1).astype(np.uint8)


def save(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(out, format, **options)
    return out.getvalue()


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG of one bit a pixel that claims any size; a few dozen bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def reason(data) -> str:
    with pytest.raises(Unreadable) as info:
        decode(data)
    return info.value.reason


def close(a: np.ndarray, b: np.ndarray, levels: int) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b.astype(int)).max() <= levels


def test_png_round_trip_is_exact_and_repeatable(photo):
    assert np.array_equal(decode(encode_png(photo)), photo)
    assert encode_png(photo) == encode_png(photo.copy())


def test_a_path_reads_like_its_bytes(photo, tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(photo))
    assert np.array_equal(decode(tmp_path / "a.png"), photo)
    assert np.array_equal(decode(str(tmp_path / "a.png")), photo)
    assert decode(tmp_path / "a.png").flags.writeable


def test_cmyk_jpeg(photo):
    cmyk = Image.fromarray(photo).convert("CMYK")
    assert close(decode(save(cmyk, "JPEG", quality=95)), photo, 12)


def test_16_bit_grey_is_divided_by_257():
    grey = np.array([[0, 257, 65535], [128, 129, 1000]], np.uint16)
    expected = np.array([[0, 1, 255], [0, 1, 4]])
    for format in ("PNG", "TIFF", "PPM"):
        out = decode(save(grey, format))
        assert np.array_equal(out, np.repeat(expected[..., None], 3, -1)), format


def test_32_bit_and_float_grey():
    ints = np.array([[0, 257 * 9, 70_000, -5]], np.int32)
    assert decode(save(ints, "TIFF"))[0, :, 0].tolist() == [0, 9, 255, 0]
    unit = np.array([[0, 0.5, 1, np.nan]], np.float32)
    assert decode(save(unit, "TIFF"))[0, :, 0].tolist() == [0, 128, 255, 0]
    assert decode(save(unit[:, :3] * 255, "TIFF"))[0, :, 1].tolist() == [0, 128, 255]
    assert decode(save(unit[:, :3] * 65535, "TIFF"))[0, :, 2].tolist() == [0, 128, 255]


def test_transparency_is_composited_on_white():
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[:, 0, 3], rgba[:, 1, 3] = 255, 51  # opaque, one fifth, invisible
    out = decode(save(rgba, "PNG"))
    assert out[0, 0].tolist() == [200, 0, 0]
    assert close(out[0, 1][None, None], np.array([[[244, 204, 204]]]), 1)
    assert out[1, 2].tolist() == [255, 255, 255]
    grey_alpha = Image.fromarray(rgba).convert("LA")
    assert decode(save(grey_alpha, "PNG"))[0, 2].tolist() == [255, 255, 255]


def test_palette_with_and_without_a_transparent_colour():
    index = Image.new("P", (2, 1))
    index.putpalette([10, 20, 30, 40, 50, 60])
    index.putpixel((1, 0), 1)
    assert decode(save(index, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert decode(save(index, "PNG", transparency=0)).tolist() == [[[255] * 3, [40, 50, 60]]]


def test_one_bit_and_grey(photo):
    grey = Image.fromarray(photo).convert("L")
    assert np.array_equal(decode(save(grey, "PNG"))[..., 1], np.asarray(grey))
    bits = grey.convert("1")
    assert set(np.unique(decode(save(bits, "PNG")))) == {0, 255}


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"lossless": True} if format == "WEBP" else {}
    data = save(red, format, save_all=True, append_images=[blue], **options)
    assert np.array_equal(decode(data), np.asarray(red))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "TIFF", "PNG"])
def test_exif_orientation_is_applied(photo, orientation, format):
    """Stored by the inverse turn and tagged, each picture must come out upright."""
    stored = {
        1: photo,
        2: photo[:, ::-1],
        3: np.rot90(photo, 2),
        4: photo[::-1],
        5: photo.swapaxes(0, 1),
        6: np.rot90(photo, 1),  # must be turned clockwise, so it lies turned counter-clockwise
        7: np.rot90(photo, 2).swapaxes(0, 1),
        8: np.rot90(photo, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if format == "JPEG" else {}
    data = save(np.ascontiguousarray(stored), format, exif=exif, **options)
    assert close(decode(data), photo, 10)


def test_a_broken_exif_block_does_not_cost_the_photo(photo):
    data = save(photo, "JPEG", quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert close(decode(data), photo, 10)


def test_one_pixel():
    assert decode(encode_png(np.full((1, 1, 3), 7, np.uint8))).tolist() == [[[7, 7, 7]]]


def test_min_size_reduces_jpegs_never_below_it(photo):
    big = np.asarray(Image.fromarray(photo).resize((640, 480)))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = save(big, "JPEG", quality=95)
    assert decode(data, min_size=(100, 100)).shape == (120, 160, 3)
    assert decode(data, min_size=(481, 1)).shape == (480, 640, 3)
    assert decode(save(big, "JPEG", exif=exif), min_size=(300, 240)).shape == (320, 240, 3)
    assert close(decode(data, min_size=(48, 64)), np.asarray(Image.fromarray(big).resize((80, 60))), 12)
    assert np.array_equal(decode(encode_png(big), min_size=(8, 8)), big)


def test_bombs_are_refused_before_they_are_decoded():
    bomb = png_header(60_000, 60_000)
    assert len(bomb) < 100
    assert reason(bomb) == f"too large: more than {MAX_PIXELS} pixels"


def test_our_limit_holds_where_a_program_has_lifted_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reason(png_header(60_000, 60_000)).startswith("too large")


def test_pillows_warning_of_big_pictures_is_not_passed_on(photo, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", photo.shape[0] * photo.shape[1] - 1)
    assert np.array_equal(decode(encode_png(photo)), photo)
    assert not recwarn.list


def test_files_that_are_not_images(tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("hello\n" * 100)
    assert reason(text) == "not an image"
    assert reason(b"") == "empty file"
    assert reason(b"\xff\xd8\xff") == "not an image"
    assert reason(tmp_path / "missing.jpg") == "cannot read: No such file or directory"
    assert reason(tmp_path) == "cannot read: Is a directory"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not an image"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF"])
def test_truncated_files_are_refused(format):
    data = save(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8), format)
    for part in (0.5, 0.8, 0.95):
        assert reason(data[: int(part * len(data))]) == "truncated file"


def test_broken_files_raise_nothing_but_unreadable_and_print_nothing(photo, capfd, recwarn):
    rng = np.random.default_rng(0)
    noisy = (photo[:24, :32] // 2 + rng.integers(0, 99, (24, 32, 3))).astype(np.uint8)
    rgb = Image.fromarray(noisy)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [save(rgb, format, exif=exif) for format in ("PNG", "JPEG", "TIFF", "WEBP")]
    files += [save(rgb.quantize(9), format) for format in ("PNG", "GIF", "BMP")]
    files += [save(rgb, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg")]
    files += [save(rgb, "PPM"), save(rgb.convert("CMYK"), "JPEG"), save(rgb.convert("1"), "TIFF")]
    ends: Counter[str] = Counter()
    for data in files:
        assert decode(data).dtype == np.uint8
        for _ in range(200):
            broken = bytearray(data)
            for at in rng.integers(0, rng.choice([100, len(data)]), rng.integers(0, 8)):
                broken[at % len(data)] = rng.integers(256)
            cut = rng.integers(len(data)) if rng.random() < 0.5 else len(data)
            try:
                out = decode(bytes(broken[:cut]), (8, 8) if rng.random() < 0.5 else None)
                assert out.dtype == np.uint8
                assert out.shape[2:] == (3,)
                ends["ok"] += 1
            except Unreadable as error:
                ends[error.reason.split(":")[0]] += 1
    assert set(ends) >= {"ok", "truncated file", "damaged file", "not an image"}, ends
    assert set(ends) <= {"ok", "truncated file", "damaged file", "not an image", "empty file", "too large"}
    assert capfd.readouterr().err == ""
    assert not recwarn.list
