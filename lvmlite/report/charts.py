"""Charts with matplotlib: lines over a common axis, and the loss curves of a run.

In: `Curve`s and logs. Out: for each chart two SVG (ink for a light and for a dark page) as data URIs, and a PNG.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from lvmlite.evaluate.results import Curve
from lvmlite.report.run import points

Points = list[tuple[float, float]]
INK = {"light": "#3a3a38", "dark": "#c9c8c4"}
# Okabe and Ito's colours, told apart under every colour blindness; lighter ones on dark ground.
COLOURS = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#8c6d00", "#56b4e9", "#666666"),
    "dark": ("#56b4e9", "#f0924d", "#35c69b", "#d98bc0", "#e0c341", "#9fd3f2", "#aaaaaa"),
}
MAX_POINTS = 600


@dataclass
class Line:
    """One line of a chart. style: "line"; "points" marks each point as well; "faint" is a noisy background."""

    name: str
    points: Points
    style: str = "line"
    colour: int = 0


@dataclass
class Chart:
    """What is drawn.

    Attributes:
        level: a named horizontal line; y_range: shared between charts that are compared; whole_x: whole numbers.
    """

    x_label: str
    y_label: str
    lines: list[Line]
    level: tuple[str, float] | None = None
    y_range: tuple[float, float] | None = None
    whole_x: bool = False


def curve_chart(curve: Curve) -> Chart:
    """A protocol's curve; few points are marked one by one."""
    lines = [
        Line(name, sorted(line), "points" if len(line) <= 40 else "line", i)
        for i, (name, line) in enumerate(curve.lines.items())
        if line
    ]
    whole = all(x == int(x) for line in lines for x, _ in line.points)
    return Chart(curve.x_label, curve.y_label, lines, whole_x=whole)


def loss_charts(logs: dict[str, list[dict[str, Any]]], codebook_size: int) -> dict[str, Chart]:
    """One chart a stage. Stages of the language model share the range of y and mark ln(codebook_size), the loss
    of a model that knows nothing."""
    charts = {name: _loss_chart(lines) for name, lines in logs.items()}
    charts = {name: chart for name, chart in charts.items() if chart.lines}
    stages = [chart for name, chart in charts.items() if name != "tokenizer"]
    values = [y for chart in stages for line in chart.lines for _, y in line.points]
    for chart in stages:
        top = max(values)
        chart.y_label = "nats per token"
        if codebook_size > 1:
            chart.level = (f"ln {codebook_size:,} = {math.log(codebook_size):.2f}", math.log(codebook_size))
            top = min(max(top, chart.level[1]), 1.5 * chart.level[1])
        low = min(values)
        margin = 0.06 * max(top - low, 1e-6)
        chart.y_range = (low - margin, top + 2 * margin)
    return charts


def smooth(line: Points, radius: int) -> Points:
    """The mean over `radius` points to either side, over fewer near the ends: no lag behind a falling loss."""
    total = [0.0, *accumulate(y for _, y in line)]
    out = []
    for i, (x, _) in enumerate(line):
        r = min(radius, i, len(line) - 1 - i)
        out.append((x, (total[i + r + 1] - total[i - r]) / (2 * r + 1)))
    return out


def draw(chart: Chart, name: str, png: Path) -> dict[str, str]:
    """Write the PNG (on white) and give the SVG data URIs {"light": ..., "dark": ...}."""
    uris = {}
    for scheme in ("light", "dark"):
        figure = _figure(chart, scheme)
        if scheme == "light":
            figure.savefig(png, dpi=200, facecolor="white", metadata={"Software": None})
        uris[scheme] = f"data:image/svg+xml;base64,{base64.b64encode(_svg(figure, name)).decode()}"
    return uris


def _loss_chart(lines: list[dict[str, Any]]) -> Chart:
    loss, held_out = points(lines, "loss"), points(lines, "val_loss")
    drawn = []
    if len(loss) > 20:
        drawn.append(Line("", _thin(loss), "faint"))
        drawn.append(Line("training", _thin(smooth(loss, len(loss) // 50))))
    elif loss:
        drawn.append(Line("training", loss, "points"))
    if held_out:
        drawn.append(Line("held out", held_out, "points", 1))
    names = sorted({key for line in lines for key in line if key.startswith("val/")})
    if len(names) > 1:
        drawn += [Line(f"held out, {n[4:]}", points(lines, n), "points", i + 2) for i, n in enumerate(names)]
    return Chart("step", "loss", drawn)


def _thin(line: Points) -> Points:
    """Every k-th point, and the last."""
    k = math.ceil(len(line) / MAX_POINTS)
    return line[::k] if (len(line) - 1) % k == 0 else [*line[::k], line[-1]]


def _figure(chart: Chart, scheme: str) -> Any:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    ink, colours = INK[scheme], COLOURS[scheme]
    with rc_context({"font.size": 9, "text.color": ink, "axes.labelcolor": ink, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(5.6, 3.3), layout="constrained")
        axes = figure.add_subplot(facecolor="none")
        for line in chart.lines:
            xs, ys = [x for x, _ in line.points], [y for _, y in line.points]
            look: dict[str, Any] = {"color": colours[line.colour % len(colours)], "label": line.name or "_"}
            if line.style == "faint":
                axes.plot(xs, ys, **look, linewidth=0.8, alpha=0.3)
            else:
                marker = "o" if line.style == "points" else ""
                axes.plot(xs, ys, **look, linewidth=1.6, marker=marker, markersize=3.5)
        if chart.y_range is not None:
            axes.set_ylim(*chart.y_range)
        if chart.level is not None:
            axes.axhline(chart.level[1], color=ink, linewidth=1, linestyle=(0, (5, 3)))
            place = axes.get_yaxis_transform()
            axes.text(0.99, chart.level[1], chart.level[0], transform=place, ha="right", va="bottom", fontsize=8)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=chart.whole_x))
        axes.tick_params(colors=ink, length=3)
        axes.grid(axis="y", color=ink, alpha=0.15, linewidth=0.7)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(ink)
        if sum(1 for line in chart.lines if line.name) > 1:
            axes.legend(frameon=False, fontsize=8, labelcolor=ink)
    return figure


def _svg(figure: Any, name: str) -> bytes:
    """The same bytes for the same chart: no date, ids from the chart's name."""
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def alt(chart: Chart, title: str) -> str:
    """A chart in words: where each line begins and ends."""
    parts = [f"Chart: {title}", f"{chart.y_label} against {chart.x_label}"]
    for line in chart.lines:
        if line.name:
            (x0, y0), (x1, y1) = line.points[0], line.points[-1]
            parts.append(f"{line.name}: from {y0:.3g} at {x0:g} to {y1:.3g} at {x1:g}")
    if chart.level is not None:
        parts.append(f"Dashed line: {chart.level[0]}")
    return ". ".join(parts) + "."
