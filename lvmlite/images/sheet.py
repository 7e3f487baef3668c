"""Contact sheets: rows of pictures -> one picture, with labels and red outlines."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

FRAME_COLOUR = (220, 40, 40)
LINE = 15  # pixels, of a line of text


def grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    pad: int = 2,
    background: int = 255,
    frames: Collection[tuple[int, int]] = (),
    scale: int = 1,
    labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    cell_labels: Sequence[Sequence[str]] = (),
) -> np.ndarray:
    """A contact sheet, uint8 RGB.

    Args:
        rows: equally sized uint8 pictures (H, W, 3); None is an empty cell; rows may differ in length.
        pad: pixels between pictures and around them, at least 1.
        frames: (row, column) of cells outlined in red, in the padding: no picture loses a pixel.
        scale: each pixel of a picture becomes scale x scale.
        labels: one a column, above it, broken between words to fit. row_labels: one a row, to its left.
        cell_labels: one a picture, below it, cut to fit.
    """
    pictures = [p for row in rows for p in row if p is not None]
    shapes = {p.shape for p in pictures}
    assert min(pad, scale) >= 1, (pad, scale)
    assert len(shapes) == 1, f"pictures of one size expected, got {shapes}"
    height, width = (n * scale for n in pictures[0].shape[:2])
    n_cols = max(len(row) for row in rows)
    head = _text(labels, width) if any(labels) else []
    side = _text(row_labels, 160) if any(row_labels) else []
    foot = LINE if cell_labels else 0
    top = pad + (max(t.shape[0] for t in head) + pad if head else 0)
    left = pad + (max(t.shape[1] for t in side) + pad if side else 0)
    out = np.full((top + len(rows) * (height + foot + pad), left + n_cols * (width + pad), 3), background, np.uint8)
    for r, c in frames:
        y, x = top + r * (height + foot + pad), left + c * (width + pad)
        out[y - pad : y + height + pad, x - pad : x + width + pad] = FRAME_COLOUR
        out[y : y + height, x : x + width] = background
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            if picture is not None:
                y, x = top + r * (height + foot + pad), left + c * (width + pad)
                out[y : y + height, x : x + width] = picture.repeat(scale, 0).repeat(scale, 1)
    ink = 0 if background > 127 else 255
    for c, text in enumerate(head):
        x = left + c * (width + pad) + (width - text.shape[1]) // 2
        _stamp(out, text, top - pad - text.shape[0], x, ink)
    for r, text in enumerate(side):
        y = top + r * (height + foot + pad) + (height - text.shape[0]) // 2
        _stamp(out, text, y, left - pad - text.shape[1], ink)
    for r, texts in enumerate(cell_labels):
        for c, text in enumerate(_text(texts, width)):
            y, x = top + r * (height + foot + pad) + height, left + c * (width + pad)
            _stamp(out, text[:LINE], y, x + (width - text.shape[1]) // 2, ink)
    return out


def _text(texts: Sequence[str], width: int) -> list[np.ndarray]:
    """Ink coverage float32 (h, w <= width) of each text in Pillow's font, broken between words to fit."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    out = []
    for text in texts:
        lines: list[str] = []
        for word in text.split():
            joined = f"{lines[-1]} {word}" if lines else word
            if lines and font.getlength(joined) <= width:
                lines[-1] = joined
            else:
                while len(word) > 1 and font.getlength(word) > width:  # a word too long for the column
                    word = word.rstrip("…")[:-1] + "…"
                lines.append(word)
        w = min(width, max((int(np.ceil(font.getlength(line))) for line in lines), default=0))
        page = Image.new("L", (max(1, w), LINE * max(1, len(lines))))
        draw = ImageDraw.Draw(page)
        for i, line in enumerate(lines):
            draw.text(((w - font.getlength(line)) / 2, LINE * i), line, fill=255, font=font)
        out.append(np.asarray(page, np.float32) / 255)
    return out


def _stamp(out: np.ndarray, text: np.ndarray, y: int, x: int, ink: int) -> None:
    """Blend text (h, w) into out at (y, x), in place, cut at the sheet's edges."""
    y, x = max(0, y), max(0, x)
    spot = out[y : y + text.shape[0], x : x + text.shape[1]]
    cover = text[: spot.shape[0], : spot.shape[1], None]
    spot[:] = np.rint(spot * (1 - cover) + ink * cover).astype(np.uint8)
