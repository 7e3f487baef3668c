"""HTML in which text is always escaped, numbers are rounded for reading, and tables are accessible.

In: text, numbers, `Table`s. Out: `Html`, the one type of text that is not escaped again.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import Any

from lvmlite.evaluate.results import Table

VOID = {"img", "input", "meta", "source"}
DASH = "–"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def el(name: str, /, *children: str | None, **attributes: str | int | bool | None) -> Html:
    """An element. A child that is not `Html` is escaped, None left out.

    An attribute's underscores become hyphens and a trailing one goes (``class_``); None and False leave it out.

    >>> el("a", "x < y", class_="q")
    '<a class="q">x &lt; y</a>'
    """
    said = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        said += f" {key}" if value is True else f' {key}="{html.escape(str(value))}"'
    if name in VOID:
        assert not children, name
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """Pieces one after the other, escaped where they are plain text."""
    return Html("".join(c if isinstance(c, Html) else html.escape(c) for c in children if c is not None))


def slug(text: str) -> str:
    """A name that is safe as a file name and as an id.

    >>> slug("../Next frames")
    'next-frames'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def number(value: Any) -> str:
    """A value for reading: three significant digits, whole numbers whole, None as a dash, text as it is.

    >>> [number(v) for v in (0.97, 12345, 1234.5, 0.00001234, None, "0.81 (0.77-0.85)")]
    ['0.970', '12,345', '1,234', '1.23e-05', '–', '0.81 (0.77-0.85)']
    """
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        said = f"{value:.2e}"
    elif abs(value) >= 999.5:
        said = f"{value:,.0f}"
    else:
        said = f"{value:#.3g}".rstrip(".")
    return said.replace("-", "−", 1) if value < 0 else said


def duration(seconds: float) -> str:
    """Seconds for reading.

    >>> [duration(s) for s in (0.25, 12.3, 130.0, 7500)]
    ['0.25 s', '12.3 s', '2 min 10 s', '2 h 05 min']
    """
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plain(value: Any) -> str:
    """Any JSON value in a line: mappings as ``name: value``, lists with commas."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(v)}" for key, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value)
    return number(value)


def table(t: Table, ident: str) -> Html:
    """A table with its title, whose id is `ident`, and note. Columns that hold numbers are set flush right.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    for row in t.rows:
        if len(row) != len(t.columns):
            raise ValueError(f"table '{t.name}': a row of {len(row)} cells under {len(t.columns)} columns: {row}")
    numeric = [_numeric([row[c] for row in t.rows]) for c in range(len(t.columns))]
    kinds = ["n" if is_number else None for is_number in numeric]
    head = el("tr", *(el("th", name, scope="col", class_=k) for name, k in zip(t.columns, kinds, strict=True)))
    rows = []
    for row in t.rows:
        cells = [el("td", number(v), class_=k) for v, k in zip(row, kinds, strict=True)]
        if row and not numeric[0]:
            cells[0] = el("th", number(row[0]), scope="row")
        rows.append(el("tr", *cells))
    body = el("table", el("thead", head), el("tbody", *rows), aria_labelledby=ident, class_="numbers")
    if not t.rows:
        body = el("p", "No rows were measured.", class_="missing")
    return el(
        "div",
        el("h3", t.title, id=ident),
        scrollable(body, t.title),
        el("p", t.note, class_="note") if t.note else None,
        class_="table",
    )


def scrollable(body: Html, label: str) -> Html:
    """Wide content that scrolls by itself on a narrow screen, by keyboard too."""
    return el("div", body, class_="scroll", tabindex=0, role="region", aria_label=label)


def pairs(rows: Sequence[tuple[str, Any]]) -> Html:
    """Names and values, as a description list."""
    return el("dl", *(join(el("dt", name), el("dd", plain(value))) for name, value in rows))


def _numeric(values: list[Any]) -> bool:
    """Whether a column reads as numbers: at least one, and no other text than numbers with an interval."""
    given = [v for v in values if v is not None]
    return bool(given) and all(
        isinstance(v, int | float) or (isinstance(v, str) and re.match(r"[-−±+<>~≈]?\s*[\d.]", v)) for v in given
    )
