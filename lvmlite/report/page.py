"""The page: what comes first, what follows, and the sentence at the top.

In: a run folder. Out: `report/index.html` and the pictures beside it. First screen: the figures that show the idea
(one query with three prompts, one prompt with three queries, next frames; of a tokenizer alone its reconstructions).
Then the ladder and its worst cases, every
other protocol in the order given, loss curves, reconstructions, machine and time, recipe, licences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from lvmlite.evaluate.results import Curve, Figure, Result, Table, Value
from lvmlite.report import charts
from lvmlite.report.markup import Html, duration, el, join, number, pairs, plain, scrollable, slug, table
from lvmlite.report.pictures import Album, figure_html, keyframes, write_sheet
from lvmlite.report.run import Run, Step, points, read_run

FIRST = ("one-query-three-prompts", "one-prompt-three-queries", "next-frames")
FIRST_OF_TOKENIZER = ("reconstructions",)
LADDER, RECONSTRUCTION = "ladder", "reconstruction"


def write_report(run: Path, *, title: str = "", logs: Mapping[str, Path] | None = None) -> Path:
    """Write the report of a run.

    Args:
        run: the run folder; whatever it lacks is left out and said so.
        title: of the page; "" names the recipe.
        logs: stage name -> log.jsonl, in training order; None looks in the usual places.

    Returns:
        `run/report/index.html`.

    Raises:
        ValueError: no such folder, or a file of it cannot be understood.
    """
    page = Page(read_run(run, logs), run / "report")
    path = page.folder / "index.html"
    text = page.html(title)
    path.write_text(text, encoding="utf-8")
    return path


class Page:
    """Builds the page of one run and writes the pictures beside it."""

    def __init__(self, run: Run, folder: Path):
        folder.mkdir(exist_ok=True)
        self.run, self.folder = run, folder
        self.album = Album(run.folder / "evaluation", run.figures())
        self.contents: list[tuple[str, str]] = []
        self.idents: set[str] = set()
        self.opening = FIRST if run.trains_model else FIRST_OF_TOKENIZER
        self.first = {f.name: f for f in reversed(run.figures()) if f.name in self.opening}
        self.names = {id(figure): self.ident(figure.name) for figure in run.figures()}
        for figure in run.figures():
            write_sheet(figure, self.album, folder / f"{self.names[id(figure)]}.png")

    def ident(self, name: str) -> str:
        """An id and file name that no other part of the page has."""
        base, n = slug(name), 2
        name = base
        while name in self.idents:
            name, n = f"{base}-{n}", n + 1
        self.idents.add(name)
        return name

    def html(self, title: str) -> str:
        run = self.run
        title = title or " ".join(filter(None, ("lvmlite", str(run.about.get("recipe") or ""))))
        style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
        first = self.first_screen()
        rest = [self.missing(), *self.results(), self.training(), *self.results(RECONSTRUCTION)]
        rest += [self.time(), self.recipe(), self.licences()]
        head = el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", name="viewport", content="width=device-width, initial-scale=1"),
            el("meta", name="color-scheme", content="light dark"),
            el("title", title),
            el("style", Html(style + keyframes(run.figures()))),
        )
        header = el(
            "header",
            el("h1", title),
            el("p", verdict(run), class_="verdict"),
            el("p", self.about(), class_="about"),
        )
        links = (el("a", text, href=f"#{name}") for name, text in self.contents)
        contents = el("nav", *(join(" ", link) for link in links), aria_label="Contents")
        body = el("body", el("main", header, first, contents, *(part for part in rest if part)))
        return "<!doctype html>\n" + el("html", head, body, lang="en") + "\n"

    def section(self, title: str, *parts: Html | None) -> Html:
        """A section that the contents name."""
        name = self.ident(f"section {title}")
        self.contents.append((name, title))
        return el("section", el("h2", title), *parts, id=name)

    def about(self) -> str:
        """Where, when and with what, in a line."""
        said = {key: value for key, value in self.run.about.items() if key != "verdict" and value not in (None, "")}
        if "created" in said:
            said["created"] = str(said["created"])[:16].replace("T", " ")
        parts = [f"{key.replace('_', ' ')} {plain(value)}" for key, value in said.items()]
        spent = sum(step.seconds for step in self.run.steps)
        parts += [f"{duration(spent)} of work"] if spent else []
        return " · ".join(parts)

    def first_screen(self) -> Html:
        parts = []
        for name in self.opening:
            if name in self.first:
                parts.append(self.figure(self.first[name], level=2))
            else:
                parts.append(el("p", f"Figure “{name.replace('-', ' ')}”: not in this run.", class_="missing"))
        return el("div", *parts, class_="first" if self.run.trains_model else "first alone")

    def figure(self, figure: Figure, level: int = 3) -> Html:
        return figure_html(figure, self.album, self.names[id(figure)], level)

    def table(self, t: Table) -> Html:
        return table(t, self.ident(f"table {t.name}"))

    def missing(self) -> Html | None:
        lines = list(self.run.missing)
        if self.run.trains_model and not any(LADDER in result.protocol for result in self.run.results):
            lines.append("The ladder was not measured: whether the model reads its prompt is not known.")
        if not any(RECONSTRUCTION in result.protocol for result in self.run.results):
            lines.append("Reconstructions were not measured: the ceiling of every picture is not known.")
        return el("section", *(el("p", line, class_="missing") for line in lines)) if lines else None

    def results(self, only: str = "") -> list[Html]:
        """Every protocol, the ladder first; those named by `only`, which else are left for later."""
        chosen = [r for r in self.run.results if (RECONSTRUCTION in r.protocol) == (only == RECONSTRUCTION)]
        chosen.sort(key=lambda r: LADDER not in r.protocol)
        worst = [f for f in self.run.figures() if _is_worst(f)] if not only else []
        out = []
        for i, result in enumerate(chosen):
            figures = [f for f in result.figures if f is not self.first.get(f.name) and not _is_worst(f)]
            out.append(self.result(result, [*worst, *figures] if i == 0 else figures))
        return out

    def result(self, result: Result, figures: list[Figure]) -> Html:
        """One protocol: its tables, curves and figures; its settings and headline numbers folded away."""
        details = []
        if result.values:
            rows = [[name, value] for name, value in result.values.items()]
            details.append(self.table(Table(f"{result.protocol} values", "Values", ["name", "value"], rows)))
        if result.settings:
            details += [el("h3", "Settings"), pairs(list(result.settings.items()))]
        if result.seconds:
            details.append(el("p", f"Measured in {duration(result.seconds)}.", class_="note"))
        empty = not (result.tables or result.curves or result.figures)
        return self.section(
            result.protocol.replace("_", " ").replace("-", " ").capitalize(),
            el("div", *(self.table(t) for t in result.tables), class_="tables") if result.tables else None,
            *(self.curve(curve) for curve in result.curves),
            *(self.figure(figure) for figure in figures),
            el("details", el("summary", "All values and settings"), *details, open=empty) if details else None,
        )

    def curve(self, curve: Curve) -> Html:
        chart = charts.curve_chart(curve)
        if not chart.lines:
            return el("p", f"{curve.title}: no point was measured.", class_="missing")
        return self.chart(chart, curve.name, curve.title, curve.note)

    def chart(self, chart: charts.Chart, name: str, title: str, note: str = "") -> Html:
        name = self.ident(name)
        uris = charts.draw(chart, name, self.folder / f"{name}.png")
        image = el("img", src=uris["light"], alt=charts.alt(chart, title), width=560, height=330)
        dark = el("source", srcset=uris["dark"], media="screen and (prefers-color-scheme: dark)")
        return el(
            "figure",
            el("h3", title),
            el("picture", dark, image),
            el("figcaption", note) if note else None,
            class_="chart",
        )

    def training(self) -> Html | None:
        """Loss curves and what each stage did."""
        run = self.run
        if not run.logs:
            return None
        drawn = charts.loss_charts(run.logs, run.codebook_size)
        ordered = sorted(drawn, key=lambda name: name == "tokenizer")
        parts = [self.chart(drawn[name], f"loss-{name}", f"Loss, {name}") for name in ordered]
        note = "Held-out losses are means over validation sentences, in nats per token for the stages of the model. "
        if not run.trains_model:
            note = "Held-out losses are of the reconstruction alone, means over validation pictures. "
        elif run.codebook_size > 1:
            level = f"{math.log(run.codebook_size):.2f}"
            note += f"The dashed line, ln {run.codebook_size:,} = {level}, is the loss of guessing every code alike. "
        note += "Training losses: faint as logged, strong averaged over 1/25 of the run. "
        note += "The table gives means of the first and last tenth."
        summary = self.table(training_table(run))
        return self.section("Training", el("div", *parts, class_="charts"), el("p", note, class_="note"), summary)

    def time(self) -> Html | None:
        steps, machine = self.run.steps, self.run.machine
        parts: list[Html | None] = []
        if machine:
            parts.append(pairs([(name.replace("_", " "), value) for name, value in machine.items()]))
        if steps:
            parts += [_bar(steps), self.table(steps_table(steps))]
        return self.section("Machine and time", *parts) if parts else None

    def recipe(self) -> Html:
        if not self.run.recipe:
            return self.section("Recipe", el("p", "recipe.yaml is not there.", class_="missing"))
        text = scrollable(el("pre", el("code", self.run.recipe)), "recipe.yaml")
        return self.section("Recipe", el("details", el("summary", "recipe.yaml, as resolved"), text))

    def licences(self) -> Html:
        if not self.run.sources:
            return self.section(
                "Data and licences", el("p", "The sources' licences are not recorded.", class_="missing")
            )
        rows: list[tuple[str, object]] = [(name, said or "not stated") for name, said in self.run.sources.items()]
        return self.section("Data and licences", pairs(rows))


def verdict(run: Run) -> str:
    """One sentence of measured numbers; the run's own, if `results.json` has "run": {"verdict": ...}."""
    if run.about.get("verdict"):
        return str(run.about["verdict"])
    values = {name: value for result in run.results for name, value in result.values.items()}
    parts = []
    for name, words in HEADLINES:
        value = values.get(name)
        if not isinstance(value, int | float):
            continue
        chance = values.get(f"{name}/chance")
        said = f" (chance {_percent(chance)})" if isinstance(chance, int | float) else ""
        parts.append(words.format(percent=_percent(value), value=number(float(value))) + said)
    stages = {n: [y for _, y in points(lines, "val_loss")] for n, lines in run.logs.items() if n != "tokenizer"}
    last = [f"{number(loss[-1])}" for loss in stages.values() if loss]
    if last:
        guess = f" of {math.log(run.codebook_size):.2f} when guessing" if run.codebook_size > 1 else ""
        parts.append(f"held-out loss {' and then '.join(last)} nats a token{guess}")
    if not parts:
        return "Nothing was measured in this run."
    sentence = "; ".join(parts) + "."
    return sentence[0].upper() + sentence[1:]


HEADLINES = (
    ("task/1", "after one pair of pictures the prompted task is chosen in {percent} of held-out queries"),
    ("query/1", "the answer of the right query in {percent}"),
    ("binding/3", "an unseen palette is bound to its classes after three pairs in {percent}"),
    ("speedup_per_token", "in the long context a token costs {value} times as much"),
    ("psnr", "the tokenizer reconstructs held-out photos at {value} dB"),
    ("codes used/all", "{percent} of its codes are in use"),
)


def training_table(run: Run) -> Table:
    """First and last losses, speed and waiting of each stage."""
    columns = ["trained", "steps", "loss at first", "loss at last", "held out at last", "speed", "waiting for data"]
    rows: list[list[Value]] = []
    for name, lines in run.logs.items():
        loss, held_out = [y for _, y in points(lines, "loss")], [y for _, y in points(lines, "val_loss")]
        tenth = max(1, len(loss) // 10)
        unit = next((u for u in ("tokens", "images") if points(lines, f"{u}_per_s")), "")
        speeds = sorted(y for _, y in points(lines, f"{unit}_per_s"))
        waits = [y for _, y in points(lines, "data_wait")]
        rows.append([
            name,
            max((int(line.get("step", 0)) for line in lines), default=0),
            sum(loss[:tenth]) / tenth if loss else None,
            sum(loss[-tenth:]) / tenth if loss else None,
            held_out[-1] if held_out else None,
            f"{number(float(f'{speeds[len(speeds) // 2]:.3g}'))} {unit}/s" if speeds else None,
            _percent(sum(waits) / len(waits)) if waits else None,
        ])  # fmt: skip
    return Table("training", "Stages", columns, rows)


def steps_table(steps: list[Step]) -> Table:
    """The time of each step, when it was done, and their sum."""
    rows: list[list[Value]] = []
    for step in steps:
        rows.append([step.step, duration(step.seconds) + (", earlier" if step.skipped else ""), step.detail])
    rows.append(["all", duration(sum(step.seconds for step in steps)), ""])
    return Table("steps", "Time of each step", ["step", "time", "what was done"], rows)


def _bar(steps: list[Step]) -> Html | None:
    """The steps' shares of the time as one stacked bar."""
    total = sum(step.seconds for step in steps)
    if total <= 0:
        return None
    words = ", ".join(f"{step.step} {_percent(step.seconds / total)}" for step in steps)
    shares = (
        el(
            "span",
            el("span", s.step),
            style=f"flex-grow: {s.seconds / total:.4f}",
            title=f"{s.step}: {duration(s.seconds)}",
        )
        for s in steps
        if s.seconds > 0
    )
    return el("div", *shares, class_="bar", role="img", aria_label=f"Share of the time: {words}")


def _is_worst(figure: Figure) -> bool:
    return "worst" in figure.name


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share < 0.995 else f"{100 * share:.0f}%"
