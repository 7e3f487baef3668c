"""Contact sheets: every picture whole, outlines beside them, labels above and left."""

from __future__ import annotations

import numpy as np
import pytest

from lvmlite.images import grid
from lvmlite.images.sheet import FRAME_COLOUR


@pytest.fixture
def rows() -> list[list[np.ndarray | None]]:
    rng = np.random.default_rng(0)
    a, b, c, d = rng.integers(0, 256, (4, 6, 8, 3)).astype(np.uint8)
    return [[a, b, c], [d, None]]


def test_pictures_lie_on_a_grid_and_empty_cells_stay_blank(rows):
    sheet = grid(rows, pad=3, background=200)
    assert sheet.shape == (3 + 2 * (6 + 3), 3 + 3 * (8 + 3), 3)
    for r, row in enumerate(rows):
        for c in range(3):
            cell = sheet[3 + 9 * r :, 3 + 11 * c :][:6, :8]
            picture = row[c] if c < len(row) else None
            assert np.array_equal(cell, np.full((6, 8, 3), 200) if picture is None else picture)


def test_outlines_take_the_padding_and_no_pixel_of_any_picture(rows):
    frames = {(0, 0), (0, 1), (1, 1)}
    plain, framed = grid(rows, pad=2), grid(rows, pad=2, frames=frames)
    changed = (plain != framed).any(-1)
    assert (framed[changed] == FRAME_COLOUR).all()
    ring = np.zeros_like(changed)
    for r, c in frames:
        y, x = 2 + 8 * r, 2 + 10 * c
        ring[y - 2 : y + 8, x - 2 : x + 10] = True
    for r in range(2):
        for c in range(3):
            ring[2 + 8 * r :, 2 + 10 * c :][:6, :8] = False
    assert np.array_equal(changed, ring)


def test_scale_repeats_pixels(rows):
    sheet = grid([rows[0][:1]], pad=1, scale=3)
    assert np.array_equal(sheet[1:-1, 1:-1][::3, ::3], rows[0][0])
    assert np.array_equal(sheet[1:-1, 1:-1][2::3, 1::3], rows[0][0])


def test_labels_take_their_own_room(rows):
    bare = grid(rows, scale=8)
    sheet = grid(rows, scale=8, labels=["prompt", "a query of many words", "answer"], row_labels=["one", "two"])
    down, right = np.subtract(sheet.shape[:2], bare.shape[:2])
    assert down > 20  # two lines of text
    assert right > 15
    assert np.array_equal(sheet[down:, right:], bare)
    assert (sheet[:down, right:] < 128).any()
    assert (sheet[down:, :right] < 128).any()
    assert np.array_equal(
        sheet, grid(rows, scale=8, labels=["prompt", "a query of many words", "answer"], row_labels=["one", "two"])
    )


def test_a_word_too_long_for_its_column_is_cut(rows):
    sheet = grid([rows[0]], scale=4, labels=["incomprehensibilities"] * 3)
    assert sheet.shape[1] == grid([rows[0]], scale=4).shape[1]


def test_cell_labels_stand_below_their_pictures(rows):
    bare = grid(rows, scale=6)
    sheet = grid(rows, scale=6, cell_labels=[["seg", "depth"], ["photo"]])
    height = rows[0][0].shape[0] * 6
    assert sheet.shape == (bare.shape[0] + len(rows) * 15, *bare.shape[1:])
    for r in range(len(rows)):
        picture = slice(2 + r * (height + 2), 2 + r * (height + 2) + height)
        moved = slice(picture.start + 15 * r, picture.stop + 15 * r)
        assert np.array_equal(sheet[moved], bare[picture])
        below = sheet[moved.stop : moved.stop + 15]
        assert (below < 128).any()
