"""Maps of ids, brightness and depth: values are those stored, and what is no such map is refused with its reason."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lvmlite.data.sources.maps import check_size, read_depth, read_grey, read_ids, read_rgb_ids
from lvmlite.images import Unreadable


def png(image: Image.Image | np.ndarray, format: str = "PNG") -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(out, format)
    return out.getvalue()


def reason(read, *args) -> str:
    with pytest.raises(Unreadable) as info:
        read(*args)
    return info.value.reason


RGB = np.array([[[1, 2, 3], [255, 255, 255]]], np.uint8)


def test_ids_of_every_depth_are_as_stored():
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
        out = read_ids(png(np.array([[0, 7, top]], dtype)))
        assert (out.tolist(), out.dtype) == ([[0, 7, top]], dtype)
    assert read_ids(png(np.array([[0, 100_000]], np.int32), "TIFF")).tolist() == [[0, 100_000]]
    bits = read_ids(png(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")))
    assert (bits.tolist(), bits.dtype) == ([[0, 1]], np.uint8)
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putdata([1, 0])
    assert read_ids(png(palette)).tolist() == [[1, 0]]


def test_colours_are_ids_only_if_they_are_grey():
    grey = np.repeat(np.array([[[3], [200]]], np.uint8), 3, -1)
    assert read_ids(png(grey)).tolist() == [[3, 200]]
    assert reason(read_ids, png(RGB)) == "not a map of ids"


def test_negative_and_fractional_numbers_are_no_ids():
    assert reason(read_ids, png(np.array([[0, -1]], np.int32), "TIFF")) == "not a map of ids"
    assert reason(read_ids, png(np.array([[0.5]], np.float32), "TIFF")) == "not a map of ids"


def test_rgb_ids():
    out = read_rgb_ids(png(RGB))
    assert (out.tolist(), out.dtype) == ([[1 + 2 * 256 + 3 * 65536, 2**24 - 1]], np.int32)
    assert reason(read_rgb_ids, png(RGB[..., 0])) == "not a map of RGB ids"


def test_grey_is_a_share_of_what_the_bits_hold():
    assert read_grey(png(np.array([[0, 51, 255]], np.uint8))).tolist() == [[0, np.float32(0.2), 1]]
    assert read_grey(png(np.array([[0, 13107, 65535]], np.uint16))).tolist() == [[0, np.float32(0.2), 1]]
    assert read_grey(png(np.array([[-1, 0.5, 3, np.nan]], np.float32), "TIFF")).tolist() == [[0, 0.5, 1, 0]]
    assert read_grey(png(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"))).tolist() == [[0, 1]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 255, 255, 51, 51, 51])
    palette.putdata([1, 0])
    out = read_grey(png(palette))
    assert (out.tolist(), out.dtype) == ([[np.float32(0.2), 1]], np.float32)
    assert reason(read_grey, png(RGB)) == "not a grey picture"


def test_depth_is_divided_by_its_scale():
    out = read_depth(png(np.array([[0, 1500, 65535]], np.uint16)), 1000)
    assert (out.tolist(), out.dtype) == ([[0, 1.5, np.float32(65.535)]], np.float32)
    metres = np.array([[0, 2.5, np.nan, np.inf, -1]], np.float32)
    assert read_depth(png(metres, "TIFF"), 1).tolist() == [[0, 2.5, 0, 0, 0]]
    stored = io.BytesIO()
    np.save(stored, metres.astype(np.float64))
    assert read_depth(stored.getvalue(), 0.5).tolist() == [[0, 5, 0, 0, 0]]
    assert reason(read_depth, png(RGB), 1000) == "not a depth map"
    assert reason(read_depth, png(Image.new("1", (2, 2))), 1000) == "not a depth map"


@pytest.mark.parametrize("read", [read_ids, read_rgb_ids, read_grey, lambda data: read_depth(data, 1)])
def test_broken_files_are_unreadable(read):
    data = png(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    assert reason(read, data[: len(data) // 2]) == "truncated file"
    assert reason(read, b"text" * 30) == "not an image"
    assert reason(read, b"") == "empty file"


def test_sizes_are_compared():
    photo = np.zeros((4, 6, 3), np.uint8)
    check_size(np.zeros((4, 6)), photo, "depth")
    with pytest.raises(Unreadable, match=r"^normals and photo differ in size$"):
        check_size(np.zeros((6, 4, 3)), photo, "normals")
