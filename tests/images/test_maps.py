"""Pictures that hold numbers: every depth of grey comes out as stored, and every broken file as `Unreadable`."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lvmlite.images import MAX_PIXELS, Unreadable, decode_map


def save(image: Image.Image | np.ndarray, format: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(out, format, **options)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def grey_png(rows: list[bytes], width: int, bits: int) -> bytes:
    """A grey PNG of `bits` a pixel, whose rows are packed already."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def reason(data) -> str:
    with pytest.raises(Unreadable) as info:
        decode_map(data)
    return info.value.reason


def test_numbers_come_out_as_stored():
    for format in ("PNG", "TIFF", "PPM"):
        for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
            x = np.array([[0, 1, 2], [top // 2, top - 1, top]], dtype)
            out = decode_map(save(x, format))
            assert np.array_equal(out, x), format
            assert out.dtype == x.dtype or format == "PPM"
    wide = np.array([[0, 70_000, 2**31 - 1, -3]], np.int32)
    assert decode_map(save(wide, "TIFF")).tolist() == wide.tolist()
    depth = np.array([[0.25, 3.5, np.nan]], np.float32)
    assert np.array_equal(decode_map(save(depth, "TIFF")), depth, equal_nan=True)
    big_endian = Image.frombytes("I;16B", (2, 1), b"\x01\x02\x03\x04")
    out = decode_map(save(big_endian, "TIFF"))
    assert out.tolist() == [[0x102, 0x304]]
    assert out.dtype == np.uint16


def test_a_palette_gives_indices_or_colours():
    index = Image.fromarray(np.array([[0, 1, 255]], np.uint8))
    palette = Image.new("P", (3, 1))
    palette.putpalette([0, 0, 0, 128, 0, 64] + [0] * 759 + [224, 224, 192])
    palette.putdata([0, 1, 255])
    assert decode_map(save(palette)).tolist() == [[0, 1, 255]]
    assert decode_map(save(palette, transparency=0)).tolist() == [[0, 1, 255]]
    assert decode_map(save(palette), ids=False).tolist() == [[[0, 0, 0], [128, 0, 64], [224, 224, 192]]]
    assert decode_map(save(index), ids=False).tolist() == [[0, 1, 255]]
    few = palette.convert("P")
    few.putdata([0, 1, 1])
    assert decode_map(save(few, bits=1)).tolist() == [[0, 1, 1]]


def test_grey_of_few_bits_is_not_spread_unless_brightness_is_asked_for():
    four, two = grey_png([b"\x01\x2f"], 4, 4), grey_png([b"\x1b"], 4, 2)
    assert decode_map(four).tolist() == [[0, 1, 2, 15]]
    assert decode_map(two).tolist() == [[0, 1, 2, 3]]
    assert decode_map(four, ids=False).tolist() == [[0, 17, 34, 255]]
    one = decode_map(grey_png([b"\xa0"], 4, 1))
    assert one.dtype == bool
    assert one.tolist() == [[True, False, True, False]]


def test_colours_keep_their_numbers_and_lose_their_transparency():
    rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(decode_map(save(rgb)), rgb)
    faint = np.concatenate([rgb, np.full((2, 3, 1), 7, np.uint8)], -1)
    assert np.array_equal(decode_map(save(faint)), rgb)
    assert decode_map(save(Image.fromarray(rgb[..., 0]).convert("LA"))).tolist() == rgb[..., 0].tolist()
    assert reason(save(Image.fromarray(rgb).convert("CMYK"), "TIFF")) == "not a map of numbers"


def test_exif_orientation_turns_a_map_as_it_turns_a_photo():
    exif = Image.Exif()
    exif[0x0112] = 6
    x = np.array([[1, 2, 3], [4, 5, 6]], np.uint16)
    assert decode_map(save(x, exif=exif)).tolist() == [[4, 1], [5, 2], [6, 3]]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "|b1", "<f4", ">f8", "<i8"])
def test_numpy_files(dtype):
    x = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    for array in (x, np.asfortranarray(x), x[..., None]):
        out = decode_map(npy(array))
        assert np.array_equal(out, x)
        assert out.flags.writeable
    assert decode_map(npy(np.zeros((2, 3, 3), np.float64))).shape == (2, 3, 3)
    assert decode_map(npy(np.ones((1, 1), np.float64))).dtype == np.float32


def test_numpy_files_that_are_refused():
    assert reason(npy(np.array([["text"]]))) == "not a map of numbers"
    assert reason(npy(np.zeros(4))) == "not a map of numbers"
    assert reason(npy(np.zeros((0, 4)))) == "not a map of numbers"
    assert reason(npy(np.zeros((1, 1), [("a", "f4")]))) == "not a map of numbers"
    out = io.BytesIO()
    np.save(out, np.array([[{}]], object), allow_pickle=True)
    assert reason(out.getvalue()) == "not a map of numbers"
    whole = npy(np.zeros((40, 40)))
    assert reason(whole[:-1]) == "truncated file"
    assert reason(whole[:20]) == "damaged file"
    claim = npy(np.zeros((2, 2))).replace(b"(2, 2), ", b"(99999, 99999), ")
    assert reason(claim[: claim.index(b"}") + 1].ljust(128)).startswith(("too large", "damaged"))


def test_bombs_are_refused_before_they_are_decoded(monkeypatch):
    head = bytearray(grey_png([b"\0"], 8, 1))
    head[16:24] = struct.pack(">II", 60_000, 60_000)
    head[29:33] = struct.pack(">I", zlib.crc32(bytes(head[12:29])))
    assert reason(bytes(head)) == f"too large: more than {MAX_PIXELS} pixels"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reason(bytes(head)) == f"too large: more than {MAX_PIXELS} pixels"


def test_files_that_are_not_maps(tmp_path):
    assert reason(b"") == "empty file"
    assert reason(b"hello" * 20) == "not an image"
    assert reason(tmp_path / "missing.png") == "cannot read: No such file or directory"
    data = save(np.random.default_rng(0).integers(0, 65536, (48, 64)).astype(np.uint16))
    assert reason(data[: len(data) // 2]) == "truncated file"


def test_broken_files_raise_nothing_but_unreadable_and_print_nothing(capfd, recwarn):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 65536, (24, 32)).astype(np.uint16)
    palette = Image.fromarray((ids % 256).astype(np.uint8)).convert("P")
    files = [save(ids), save(ids, "TIFF"), save(palette), save(palette, "GIF"), npy(ids)]
    files += [save(ids.astype(np.float32), "TIFF"), save(ids, "TIFF", compression="tiff_lzw"), save(ids, "PPM")]
    ends: Counter[str] = Counter()
    for data in files:
        assert decode_map(data).shape == (24, 32)
        for _ in range(200):
            broken = bytearray(data)
            for at in rng.integers(0, rng.choice([100, len(data)]), rng.integers(0, 8)):
                broken[at % len(data)] = rng.integers(256)
            cut = rng.integers(len(data)) if rng.random() < 0.5 else len(data)
            try:
                assert decode_map(bytes(broken[:cut]), ids=bool(rng.random() < 0.5)).ndim in (2, 3)
                ends["ok"] += 1
            except Unreadable as error:
                ends[error.reason.split(":")[0]] += 1
    assert set(ends) >= {"ok", "truncated file", "damaged file", "not an image"}, ends
    allowed = {"ok", "truncated file", "damaged file", "not an image", "empty file", "too large"}
    assert set(ends) <= allowed | {"not a map of numbers"}, ends
    assert capfd.readouterr().err == ""
    assert not recwarn.list
