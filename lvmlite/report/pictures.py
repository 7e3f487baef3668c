"""Figures: grids of pictures as HTML with the pictures inside, as contact sheets, as animations, and the hero.

In: `Figure`s that name files under `evaluation/`. Out: HTML and files. What the model drew is framed in red, around
the picture and never over it. An animation needs no script: frames lie on top of each other and CSS shows one at a
time, so that all pictures of a figure keep step; it can be paused, and becomes a film strip on paper and where the
reader asks for less motion.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from lvmlite.evaluate.results import Cell, Figure
from lvmlite.images import Unreadable, decode, encode_png, grid
from lvmlite.report.markup import Html, el, join, scrollable
from lvmlite.report.run import read_run

FRAME_SECONDS = 0.3
MAX_BYTES = 6_000_000  # of pictures in the page; beyond it they are embedded as lossy WebP
RED = (220, 40, 40)
HERO = "one-query-three-prompts"


@dataclass
class Picture:
    """A picture, uint8 RGB (H, W, 3), or the reason why there is none; `uri` holds its bytes."""

    pixels: np.ndarray | None
    uri: str = ""
    reason: str = ""


class Album:
    """The pictures under one folder, each read once.

    Args:
        folder: `evaluation/` of a run.
        figures: which will be shown: together they decide whether the page must compress.
    """

    def __init__(self, folder: Path, figures: list[Figure]):
        self.folder = folder
        self.known: dict[str, Picture] = {}
        names = [name for figure in figures for cell in cells(figure) for name in cell.pictures]
        self.lossy = sum(self._size(name) for name in names) > MAX_BYTES

    def __getitem__(self, name: str) -> Picture:
        if name not in self.known:
            self.known[name] = self._read(name)
        return self.known[name]

    def _path(self, name: str) -> Path | None:
        """None for a name that leads out of the folder."""
        path = (self.folder / name).resolve()
        return path if path.is_relative_to(self.folder.resolve()) else None

    def _size(self, name: str) -> int:
        path = self._path(name)
        return path.stat().st_size if path is not None and path.is_file() else 0

    def _read(self, name: str) -> Picture:
        path = self._path(name)
        if path is None or not path.is_file():
            return Picture(None, reason="not there")
        try:
            pixels = decode(path)
        except Unreadable as error:
            return Picture(None, reason=error.reason)
        if self.lossy:
            return Picture(pixels, _uri("webp", _webp([pixels], lossless=False)))
        data = path.read_bytes()
        return Picture(pixels, _uri("png", data if data.startswith(b"\x89PNG") else encode_png(pixels)))


def cells(figure: Figure) -> Iterator[Cell]:
    for row in figure.rows:
        yield from row


def figure_html(figure: Figure, album: Album, ident: str, level: int = 3) -> Html:
    """A figure: heading, the grid as a table, caption. Equal neighbouring column names share one heading.

    Rows of nothing but animations stand beside each other where there is room.
    """
    widths = [p.shape[1] for cell in cells(figure) for n in cell.pictures if (p := album[n].pixels) is not None]
    size = min(200, max(128, *widths)) if widths else 128
    moving = any(len(cell.pictures) > 1 for cell in cells(figure))
    head = el(
        "tr",
        *(
            el("th", name, scope="col" if n == 1 else "colgroup", colspan=n if n > 1 else None)
            for name, n in ((name, len(list(same))) for name, same in groupby(figure.columns))
        ),
    )
    rows = [
        el("tr", *(_cell(cell, figure, r, c, album) for c, cell in enumerate(row))) for r, row in enumerate(figure.rows)
    ]
    groups = [[row] for row in rows] if moving else [rows]
    tables = [el("table", el("thead", head), el("tbody", *group), class_="pictures") for group in groups]
    label = el("label", el("input", type="checkbox"), " Pause", class_="pause") if moving else None
    legend = "Framed in red: drawn by the model." if any(cell.generated for cell in cells(figure)) else ""
    caption = el("figcaption", " ".join(filter(None, (figure.caption, legend))), label)
    if not rows:
        tables = [el("p", "This figure has no pictures.", class_="missing")]
    return el(
        "figure",
        el(f"h{level}", figure.title),
        scrollable(el("div", *tables, class_="grid"), figure.title),
        caption,
        id=ident,
        class_="moving" if moving else None,
        style=f"--size: {size}px; --columns: {len(figure.columns)}",
    )


def write_sheet(figure: Figure, album: Album, path: Path) -> bool:
    """A contact sheet with column headings; an animated figure as film strips, and as `.webp` beside it.

    Args:
        figure: to draw; cells without a picture stay empty.
        path: of the PNG.

    Returns:
        False when the figure has no picture at all: then nothing is written.
    """
    size = _common_size(figure, album)
    if size is None:
        return False
    scale = max(1, 128 // size[1])
    n_frames = max(len(cell.pictures) for cell in cells(figure))
    names = [_row_name(row) for row in figure.rows]
    red = {(r, c) for r, row in enumerate(figure.rows) for c, cell in enumerate(row) if cell.generated}
    pages = [
        grid(
            _pictures(figure, album, size, t),
            pad=4,
            frames=red,
            scale=scale,
            labels=figure.columns,
            row_labels=names,
        )
        for t in range(n_frames)
    ]
    page = pages[0]
    if n_frames > 1:
        path.with_suffix(".webp").write_bytes(_webp(pages))
        page = _film_strips(figure, album, size, scale)
    path.write_bytes(encode_png(page))
    return True


def hero(run: Path, scale: int = 3) -> Path:
    """`report/hero.png`, the figure for a README: one query, three prompts, three answers.

    Args:
        run: a run folder with `results.json`.
        scale: enlargement of the pictures.

    Raises:
        ValueError: the run has no figure with generated pictures.
    """
    figures = read_run(run).figures()
    chosen = [f for f in figures if f.name == HERO] or [f for f in figures if any(c.generated for c in cells(f))]
    album = Album(run / "evaluation", chosen[:1])
    size = _common_size(chosen[0], album) if chosen else None
    if size is None:
        raise ValueError(f"{run}: no figure of generated pictures in results.json; run the evaluation first")
    path = run / "report" / "hero.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_png(_hero(chosen[0], album, size, scale)))
    return path


def _cell(cell: Cell, figure: Figure, r: int, c: int, album: Album) -> Html:
    column = figure.columns[c] if c < len(figure.columns) else ""
    label = el("span", cell.label, class_="label") if any(x.label for x in figure.rows[r]) else None
    what = ", ".join(filter(None, (column, cell.label, "drawn by the model" if cell.generated else "")))
    what = f"{figure.title}, row {r + 1}: {what}"
    shown = [(name, album[name]) for name in cell.pictures]
    images = []
    for i, (name, picture) in enumerate(shown):
        if picture.pixels is None:
            images.append(el("span", f"{name}: {picture.reason}", class_="missing"))
            continue
        h, w = picture.pixels.shape[:2]
        words = what if len(shown) == 1 else ""
        images.append(
            el("img", src=picture.uri, alt=words, width=w, height=h, style=f"--i: {i}" if len(shown) > 1 else None)
        )
    body = join(*images)
    if len(shown) > 1:
        body = el(
            "div",
            body,
            class_=f"film film-{len(shown)}",
            role="img",
            aria_label=f"Animation of {len(shown)} frames. {what}",
        )
    return el("td", label, el("div", body, class_="red" if cell.generated else "still") if shown else None)


def keyframes(figures: list[Figure]) -> str:
    """CSS that shows the i-th of n frames during the i-th n-th of the time, for every n of the figures."""
    out = []
    for n in sorted({len(cell.pictures) for figure in figures for cell in cells(figure)} - {0, 1}):
        out.append(f"@keyframes film-{n} {{ 0% {{ opacity: 1 }} {100 / n:.4f}% {{ opacity: 0 }} }}")
        out.append(
            f".film-{n} img {{ animation: film-{n} {n * FRAME_SECONDS:.2f}s step-end infinite; "
            f"animation-delay: calc({FRAME_SECONDS}s * (var(--i) - {n})) }}"
        )
    return "\n".join(out)


def _common_size(figure: Figure, album: Album) -> tuple[int, int] | None:
    """(height, width) that holds every picture of a figure."""
    found = [p.shape for cell in cells(figure) for n in cell.pictures if (p := album[n].pixels) is not None]
    return (max(s[0] for s in found), max(s[1] for s in found)) if found else None


def _on(pixels: np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
    """A picture in the middle of a white one of `size`."""
    if pixels is None or pixels.shape[:2] == size:
        return pixels
    out = np.full((*size, 3), 255, np.uint8)
    y, x = (size[0] - pixels.shape[0]) // 2, (size[1] - pixels.shape[1]) // 2
    out[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return out


def _pictures(figure: Figure, album: Album, size: tuple[int, int], t: int) -> list[list[np.ndarray | None]]:
    """All cells at frame t; one with fewer frames stays at its last."""
    return [
        [_on(album[c.pictures[min(t, len(c.pictures) - 1)]].pixels, size) if c.pictures else None for c in row]
        for row in figure.rows
    ]


def _film_strips(figure: Figure, album: Album, size: tuple[int, int], scale: int) -> np.ndarray:
    """A contact sheet with one row for each cell of the figure, its frames from left to right."""
    strips: list[list[np.ndarray | None]] = []
    names: list[str] = []
    red: set[tuple[int, int]] = set()
    for row in figure.rows:
        for c, cell in enumerate(row):
            if cell.generated:
                red |= {(len(strips), t) for t in range(len(cell.pictures))}
            names.append(", ".join(filter(None, (figure.columns[c] if c < len(figure.columns) else "", cell.label))))
            strips.append([_on(album[name].pixels, size) for name in cell.pictures])
    return grid(strips, pad=4, frames=red, scale=scale, row_labels=names)


def _row_name(row: list[Cell]) -> str:
    return ", ".join(dict.fromkeys(cell.label for cell in row if cell.label))


def _hero(figure: Figure, album: Album, size: tuple[int, int], scale: int) -> np.ndarray:
    """The figure with large letters and wide margins, pictures enlarged by Lanczos."""
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(22), ImageFont.load_default(18)
    h, w = size[0] * scale, size[1] * scale
    gap, edge = 20, 6
    names = [_row_name(row) for row in figure.rows]
    left = gap + (max(int(small.getlength(name)) for name in names) + gap if any(names) else 0)
    top = 72
    n_cols = max(len(row) for row in figure.rows)
    page = Image.new("RGB", (left + n_cols * (w + gap), top + len(names) * (h + gap)), "white")
    pen = ImageDraw.Draw(page)
    c = 0
    for name, same in groupby(figure.columns):
        n = len(list(same))
        middle = left + c * (w + gap) + (n * (w + gap) - gap) / 2
        lines = textwrap.wrap(name, max(1, n * w // 11))  # a letter is 11 pixels wide
        pen.multiline_text((middle, top - 14), "\n".join(lines), fill="#222222", font=font, anchor="md", align="center")
        c += n
    for r, row in enumerate(_pictures(figure, album, size, 0)):
        y = top + r * (h + gap)
        pen.text((gap, y + h / 2), names[r], fill="#222222", font=small, anchor="lm")
        for c, pixels in enumerate(row):
            x = left + c * (w + gap)
            if pixels is None:
                continue
            if figure.rows[r][c].generated:
                pen.rectangle((x - edge, y - edge, x + w + edge - 1, y + h + edge - 1), fill=RED)
            page.paste(Image.fromarray(pixels).resize((w, h), Image.Resampling.LANCZOS), (x, y))
    return np.asarray(page)


def _webp(frames: list[np.ndarray], lossless: bool = True) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    first, *rest = [Image.fromarray(frame) for frame in frames]
    options = (
        {"save_all": True, "append_images": rest, "duration": round(1000 * FRAME_SECONDS), "loop": 0} if rest else {}
    )
    first.save(out, "WEBP", lossless=lossless, quality=85, **options)
    return out.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
