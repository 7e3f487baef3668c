"""What a protocol hands on: numbers, tables and pictures, as JSON and PNG. The report draws them and adds nothing.

In: what protocols measured. Out: `results.json`, with pictures in the folder `evaluation/` beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Value = float | int | str | None


@dataclass
class Table:
    """Rows of cells under named columns. A number is shown rounded, None as a dash; `note` says how to read it."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Value]]
    note: str = ""


@dataclass
class Cell:
    """One place of a figure: a still, or frames of an animation.

    Attributes:
        pictures: file names under `evaluation/`; several are frames of an animation; none leaves the place empty.
        label: a few words above the picture.
        generated: drawn by the model, so framed in red.
    """

    pictures: list[str] = field(default_factory=list)
    label: str = ""
    generated: bool = False


@dataclass
class Figure:
    """A grid of pictures under named columns."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    caption: str = ""


@dataclass
class Curve:
    """Lines over a common axis: `lines` maps a name to (x, y) points."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]]
    note: str = ""


@dataclass
class Result:
    """All that one protocol measured.

    Attributes:
        protocol: its name; settings: what it was run with.
        values: the headline numbers by name, e.g. "task/1": 0.97.
        seconds: how long it took.
    """

    protocol: str
    settings: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    seconds: float = 0.0
