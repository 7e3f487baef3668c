"""The ceiling of every task: what is still read of an annotation after the tokenizer, before any model is trained.

In: held-out frames of known truth. Out: for each source and kind the task's metrics of the truth drawn, encoded,
decoded and read, LVM-Lite's "ground truth rec." row (Tables 1 to 3); beside them those of the drawing alone, so what is
lost before any tokenizer. Kinds of classes may be drawn with other palettes too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np

from lvmlite.evaluate.bench import Frame, TokenizerBench
from lvmlite.evaluate.ceiling import metric_names, pooled, scores, through
from lvmlite.evaluate.protocols.base import Progress, Protocol
from lvmlite.evaluate.results import Cell, Figure, Result, Table, Value
from lvmlite.images import Unreadable
from lvmlite.metrics import METRICS, Metric, bootstrap
from lvmlite.recipe import Range
from lvmlite.tasks import build_task, palettes
from lvmlite.tasks.base import Task


@dataclass(frozen=True)
class CeilingConfig:
    """
    Attributes:
        sources: default every source that has test annotations.
        kinds: default all that a source has.
        n_pictures: of each source and kind; every group once before any is used again.
        palettes: the truth of kinds of classes is drawn with each of these too, see `SegmentationConfig.palette`.
        n_shown: rows of the figure for each kind and palette, as drawn by seed; the worst comes on top.
    """

    protocol: Literal["ceiling"] = "ceiling"
    sources: list[str] | None = None
    kinds: list[str] | None = None
    n_pictures: Annotated[int, Range(1)] = 48
    palettes: list[str] = field(default_factory=list)
    n_shown: Annotated[int, Range(0)] = 1

    def __post_init__(self) -> None:
        for palette in self.palettes:
            palettes.check(palette, None)


class Ceiling(Protocol):
    """Raises ValueError if a source has none of the kinds named, or the file of a palette is missing or broken."""

    needs_model = False

    def __init__(self, config: CeilingConfig):
        self.config = config
        for palette in config.palettes:
            palettes.canonical(palette)

    def run(self, bench: TokenizerBench, progress: Progress) -> Result:
        c = self.config
        result = Result(c.protocol)
        rows: list[list[Value]] = []
        shown: list[list[Cell]] = []
        jobs = self.jobs(bench)
        for i, (source, kind) in enumerate(jobs):
            clips = bench.pool(bench.split, source, [kind]).clips(c.n_pictures, bench.rng("ceiling", source, kind))
            some = Truths(bench, source, kind, [clip[0] for clip in clips])
            for palette, task in self.drawings(bench.tasks[kind]):
                if isinstance(task, str):
                    rows.append([source, kind, task, *[None] * (len(COLUMNS) - 3)])
                    continue
                if task is bench.tasks[kind]:
                    drawn, back = some.pictures, bench.decode(bench.codes(some.frames, kind))
                else:
                    drawn = some.draw(task)
                    back = through(bench.tokenizer, drawn)
                rows += some.rows(result, task, palette, drawn, back)
                if c.n_shown:
                    shown += some.show(task, palette, drawn, back, c.n_shown)
            progress(i + 1, len(jobs))
        result.tables.append(Table("ceiling", "What can be read after the tokenizer", COLUMNS, rows, NOTE))
        if shown:
            result.figures.append(Figure("ceiling", "Annotations through the tokenizer", SHOWN, shown, CAPTION))
        return result

    def jobs(self, bench: TokenizerBench) -> list[tuple[str, str]]:
        """(source, kind) to measure."""
        sources = self.config.sources or bench.source_names()
        found = []
        for source in sources:
            kinds = bench.kinds(source, bench.split)
            for kind in self.config.kinds or kinds:
                if kind in kinds:
                    found.append((source, kind))
                elif self.config.sources:
                    raise ValueError(f"source '{source}' has no kind '{kind}'; it has {', '.join(kinds) or 'none'}")
        if not found:
            wanted = f" of {', '.join(self.config.kinds)}" if self.config.kinds else ""
            raise ValueError(f"{bench.pixels.path}: no {bench.split} annotations{wanted} to measure a ceiling on")
        return found

    def drawings(self, task: Task) -> list[tuple[str | None, Task | str]]:
        """The task as it is and, of classes, with each palette, for as many classes; or why that cannot be."""
        config, own = getattr(task, "config", None), getattr(getattr(task, "config", None), "palette", None)
        found: list[tuple[str | None, Task | str]] = [(own, task)]
        for palette in self.config.palettes if own is not None else ():
            if palette != own:
                try:
                    n_classes = task.palette.n_classes  # type: ignore[attr-defined]
                    found.append((palette, build_task(replace(config, palette=palette, n_classes=n_classes))))  # type: ignore[type-var]
                except ValueError as error:
                    found.append((palette, str(error)))
        return found


class Truths:
    """The same true annotations, to be drawn in several ways."""

    def __init__(self, bench: TokenizerBench, source: str, kind: str, frames: Sequence[Frame]):
        self.bench, self.source, self.kind, self.frames = bench, source, kind, frames
        self.truths = [bench.truth(frame, kind) for frame in frames]
        self.photos, self.pictures = bench.pictures(frames), bench.pictures(frames, kind)

    def draw(self, task: Task) -> np.ndarray:
        """(N, H, W, 3) uint8."""
        return np.stack([task.render(a, image=photo) for a, photo in zip(self.truths, self.photos, strict=True)])

    def rows(
        self, result: Result, task: Task, palette: str | None, drawn: np.ndarray, back: np.ndarray
    ) -> list[list[Value]]:
        """Rows of COLUMNS, a metric each; the same numbers go to the result's values."""
        names = metric_names(task)
        alone, after = (scores(task, names, self.truths, some, self.photos) for some in (drawn, back))
        rows: list[list[Value]] = []
        for name in names:
            groups: dict[str, Metric] = {}
            for frame, metric in zip(self.frames, after[name], strict=True):
                groups.setdefault(frame.group, METRICS[name]()).merge(metric)
            before, value = pooled(alone[name]).compute(), pooled(after[name]).compute()
            where = f"{name}/{self.source}/{self.kind}" + (f"/{palette}" if palette else "")
            result.values |= {where: value, f"{where}/drawn": before}
            better = f"{name} ({'higher' if METRICS[name].higher_is_better else 'lower'} is better)"
            low, high = bootstrap(list(groups.values()))
            n = [len(self.frames), len(groups)]
            rows.append([self.source, self.kind, palette, better, before, value, low, high, *n])
        return rows

    def show(self, task: Task, palette: str | None, drawn: np.ndarray, back: np.ndarray, n: int) -> list[list[Cell]]:
        """The worst by the first metric, then the first n as drawn by seed."""
        first = task.metrics[0]
        values = [m.compute() for m in scores(task, [first], self.truths, back, self.photos)[first]]
        sign = 1 if METRICS[first].higher_is_better else -1
        worst = int(np.argmin([np.inf if np.isnan(v) else sign * v for v in values]))
        name = "-".join(("ceiling", self.source, self.kind, *([palette.replace("/", "_")] if palette else [])))
        rows = []
        for r, i in enumerate([worst, *range(min(n, len(self.frames)))]):
            what = f"{self.kind}, worst of {len(values)}" if r == 0 else self.kind
            label = ", ".join(filter(None, (what, palette)))
            number = "" if np.isnan(values[i]) else f"{first} {values[i]:.2f}"
            cells = [
                self.bench.cell(f"{name}-{r}-photo", self.photos[i], self.source),
                self.bench.cell(f"{name}-{r}-drawn", drawn[i], label),
                self.bench.cell(f"{name}-{r}-back", back[i]),
            ]
            try:
                read = task.render(task.read(back[i], image=self.photos[i]), image=self.photos[i])
                cells.append(self.bench.cell(f"{name}-{r}-read", read, number))
            except Unreadable:
                cells.append(Cell(label=number))
            rows.append(cells)
        return rows


COLUMNS = [
    "source", "kind", "palette", "metric", "drawn and read", "through the tokenizer", "95% low", "95% high", "pictures",
    "groups",
]  # fmt: skip
SHOWN = ["photo", "annotation drawn", "through the tokenizer", "as read back"]
NOTE = (
    "The truth, fitted and drawn, is read back: as drawn, which shows what drawing itself loses, and after encoding "
    "and decoding. The second is the published “ground truth rec.” row: a model that answers in these codes is not "
    "expected to do better. Pooled over pictures; 95% bootstrap over groups, at least two. A kind that is derived from "
    "the photo has its drawing for truth."
)
CAPTION = "Of each kind and palette the worst by its first metric, then others in the order of the seed."
