"""The report: complete, self-contained, well formed, and honest about what a run lacks."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lvmlite.evaluate.results import Cell, Curve, Figure, Result, Table
from lvmlite.images import decode, encode_png
from lvmlite.report import hero, write_report
from lvmlite.report.charts import loss_charts, smooth
from lvmlite.report.markup import duration, el, number
from lvmlite.report.pictures import RED

SIZE = 64
KINDS = ("edges", "depth", "segmentation")
COLUMNS = ["prompt", "prompt", "query", "answer", "truth", "truth through tokenizer"]


def scene(seed: int, t: float = 0.0) -> dict[str, np.ndarray]:
    """Shaded balls on a floor, with edges, depth and classes; uint8 (64, 64, 3). `t` moves the balls."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    image = np.stack([0.55 + 0.3 * y, 0.6 + 0.2 * y, 0.75 - 0.2 * y], 2) * rng.uniform(0.7, 1, 3)
    depth, classes = 0.25 + 0.3 * y, np.zeros((SIZE, SIZE), int)
    for i in range(3):
        cx, cy, r = (*rng.uniform(0.2, 0.8, 2), rng.uniform(0.12, 0.24))
        d2 = ((x - (cx + 0.3 * t * (i - 1))) ** 2 + (y - cy) ** 2) / r**2
        inside = d2 < 1
        shade = np.sqrt(np.clip(1 - d2, 0, 1))
        image[inside] = (0.25 + 0.75 * shade[inside, None]) * rng.uniform(0.2, 1, 3)
        depth[inside], classes[inside] = 0.6 + 0.4 * shade[inside], i + 1
    step = np.abs(np.diff(classes, axis=0, prepend=0)) + np.abs(np.diff(classes, axis=1, prepend=0))
    edges = np.where(step > 0, 1.0, 0.0)
    palette = np.array([[20, 20, 20], [220, 60, 60], [60, 180, 75], [0, 130, 200]], np.uint8)
    grey = {"edges": edges, "depth": depth}
    drawn = {name: np.repeat(np.uint8(255 * v)[..., None], 3, 2) for name, v in grey.items()}
    return drawn | {"image": np.uint8(255 * image.clip(0, 1)), "segmentation": palette[classes]}


def coarse(picture: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """What a small tokenizer makes of a picture."""
    blocks = picture.reshape(16, 4, 16, 4, 3).mean((1, 3)) + rng.normal(0, noise, (16, 16, 3))
    return np.uint8(np.kron(blocks, np.ones((4, 4, 1))).clip(0, 255))


class FakeRun:
    """A run folder as `lvmlite run` leaves it, with pictures of balls and numbers made up."""

    def __init__(self, folder: Path):
        self.folder, self.rng = folder, np.random.default_rng(0)
        (folder / "evaluation").mkdir(parents=True)

    def save(self, name: str, picture: np.ndarray) -> str:
        (self.folder / "evaluation" / name).write_bytes(encode_png(picture))
        return name

    def cell(self, name: str, picture: np.ndarray, label: str = "", generated: bool = False) -> Cell:
        return Cell([self.save(f"{name}.png", picture)], label, generated)

    def row(self, name: str, kind: str, prompt: int, query: int) -> list[Cell]:
        a, b = scene(prompt), scene(query)
        return [
            self.cell(f"{name}-0", a["image"], kind),
            self.cell(f"{name}-1", a[kind]),
            self.cell(f"{name}-2", b["image"]),
            self.cell(f"{name}-3", coarse(b[kind], self.rng, 40), generated=True),
            self.cell(f"{name}-4", b[kind]),
            self.cell(f"{name}-5", coarse(b[kind], self.rng, 4)),
        ]

    def ladder(self) -> Result:
        tables = [
            Table("task", "(a) The prompt's task is recognised", ["pairs", "correct", "chance", "n"],
                  [[1, "0.964 (0.941–0.981)", 0.1666666, 400], [3, "0.978 (0.959–0.990)", 0.1666666, 400]],
                  "Among 6 candidate answers of one query; 95% bootstrap intervals over groups."),
            Table("query", "(b) The answer is that of its query", ["pairs", "correct", "chance", "n"],
                  [[1, "0.612 (0.560–0.661)", 0.25, 400], [3, "0.634 (0.583–0.684)", 0.25, 400]]),
            Table("binding", "(c) The prompt's own palette is used", ["pairs", "correct", "chance", "n"],
                  [[0, 0.5, 0.5, 200], [1, "0.515 (0.45–0.58)", 0.5, 200], [3, "0.525 (0.46–0.59)", 0.5, 200]],
                  "Palettes were drawn per sentence and never seen in training. At chance here."),
            Table("free", "(d) Sampled answers", ["kind", "metric", "answer", "copy", "constant", "ceiling"],
                  [["segmentation", "mIoU", 0.3512345, 0.121, None, 0.88], ["depth", "AbsRel", 0.24, 0.6, 0.41, 0.06]],
                  "Top-k 100, temperature 1. Ceiling: the truth through the tokenizer."),
        ]  # fmt: skip
        figures = [
            Figure("one-query-three-prompts", "One query, three prompts, three answers", COLUMNS,
                   [self.row(f"q{i}", kind, 10 + i, 1) for i, kind in enumerate(KINDS)], "Seeded, not chosen."),
            Figure("one-prompt-three-queries", "One prompt, three queries", COLUMNS,
                   [self.row(f"p{i}", "depth", 10, 21 + i) for i in range(3)], "Seeded, not chosen."),
            Figure("worst-cases", "Worst cases", COLUMNS,
                   [self.row(f"w{i}", KINDS[i], 30 + i, 40 + i) for i in range(2)], "The lowest scores."),
        ]  # fmt: skip
        values = {"task/1": 0.964, "task/1/chance": 1 / 6, "query/1": 0.612, "query/1/chance": 0.25, "binding/3": 0.525}
        return Result("ladder", {"groups": 400, "pairs": [1, 3]}, values, tables, figures, seconds=41.3)

    def next_frames(self) -> Result:
        rows = []
        for i in range(3):
            clip = [scene(50 + i, t / 8)["image"] for t in range(8)]
            given, truth = clip[:4], clip[4:]
            films = given, [coarse(f, self.rng, 12) for f in truth], truth, [coarse(f, self.rng, 2) for f in truth]
            names = [[self.save(f"v{i}-{k}-{t}.png", f) for t, f in enumerate(film)] for k, film in enumerate(films)]
            rows.append([Cell(frames, "", generated=k == 1) for k, frames in enumerate(names)])
            rows[-1][0].label = f"clip {i + 1}"
        curve = Curve("next-frame-nats", "Nats per token of the next frame", "frames of context", "nats per token",
                      {"world": [(n, 5.4 - 0.9 * math.log(n)) for n in range(1, 8)],
                       "bundled clips": [(n, 6.1 - 0.4 * math.log(n)) for n in range(1, 8)] + [(8, float("nan"))]},
                      "Held-out clips; the frame after the context.")  # fmt: skip
        figure = Figure(
            "next-frames", "Next frames, beside the truth", ["given", "answer", *COLUMNS[-2:]], rows, "World clips."
        )
        return Result("next-frames", {}, {"nats/7": 3.65}, [], [figure], [curve], 18.0)

    def others(self) -> list[Result]:
        rows = [[coarse(scene(60 + i)["image"], self.rng, 3) for i in range(4)]]
        photos = [[self.cell(f"r{i}", scene(60 + i)["image"]) for i in range(4)],
                  [self.cell(f"rr{i}", p) for i, p in enumerate(rows[0])]]  # fmt: skip
        segmentation = Table("miou", "Segmentation", ["row", "mIoU", "pixel accuracy"],
                             [["one prompt", "0.351 (0.33–0.37)", 0.71],
                              ["ground truth rec.", 0.88, 0.97]])  # fmt: skip
        speed = Table("speed", "16 × 256 against 1 × 4096 tokens", ["arm", "seconds a step", "tokens/s", "TFLOPs"],
                      [["16 × 256", 1.734, 2362, 0.14], ["1 × 4096", 2.811, 1457, 0.21], ["ratio", 1.62, None, 1.5]],
                      "Ten steps each, interleaved. The paper: 1.7–2.7 on 256 TPU-v3 cores.")  # fmt: skip
        kinds = Table(
            "psnr", "Through the tokenizer", ["kind", "PSNR (dB)", "n"], [["image", 21.43, 256], ["depth", 27.9, 256]]
        )
        return [
            Result("reconstruction", {}, {"psnr": 21.43, "codebook usage": 0.87}, [kinds],
                   [Figure("reconstructions", "Photos through the tokenizer", ["", "", "", ""], photos)]),
            Result("segmentation", {}, {"miou": 0.351}, [segmentation]),
            Result("speed", {"steps": 10}, {"ratio": 1.62}, [speed]),
        ]  # fmt: skip

    def logs(self) -> None:
        def lines(n: int, high: float, low: float, unit: str) -> list[dict]:
            out = []
            for step in range(10, n + 1, 10):
                loss = low + (high - low) * math.exp(-4 * step / n) + self.rng.normal(0, 0.06)
                line = {
                    "step": step,
                    "loss": loss,
                    "lr": 1e-3,
                    "grad_norm": 0.8,
                    f"{unit}_per_s": 9123.4,
                    "data_wait": 0.013,
                }
                if step % 100 == 0:
                    line |= {"val_loss": loss + 0.08, "val/single": loss, "val/pairs": loss + 0.2}
                out.append(line)
            return out

        for name, content in {
            "tokenizer": lines(600, 0.4, 0.05, "images"),
            "stages/single": lines(800, 6.9, 4.4, "tokens"),
            "stages/sequences": lines(500, 4.6, 3.6, "tokens"),
        }.items():
            path = self.folder / name / "log.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in content) + '{"step": 9', encoding="utf-8")

    def write(self) -> Path:
        results = [self.next_frames(), self.ladder(), *self.others()]
        machine = {"cpu": "2 cores, x86-64", "memory": "8 GB", "torch": "2.13.0", "threads": 2}
        about = {"recipe": "quickstart", "created": "2026-01-05T10:20:30+00:00", "version": "0.1.0"}
        self.json(
            "results.json", {"results": [dataclasses.asdict(r) for r in results], "machine": machine, "run": about}
        )
        names = ("pixels", "tokenizer", "build", "single", "sequences", "evaluate")
        self.json("steps.json", [{"step": n, "seconds": 20.0 * (i + 1), "skipped": n == "build", "detail": f"{n} done"}
                                 for i, n in enumerate(names)])  # fmt: skip
        sources = {"world": {"licence": "Apache-2.0"}, "bundled": {"licence": "see the packages"}}
        (self.folder / "model").mkdir()
        self.json("model/lvmlite.json", {"codebook_size": 1024, "sources": sources})
        (self.folder / "recipe.yaml").write_text(
            "seed: 0\nstages:\n  - name: single\n    steps: 800\n", encoding="utf-8"
        )
        self.logs()
        return self.folder

    def json(self, name: str, content: object) -> None:
        (self.folder / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read by several tests, changed by none."""
    folder = FakeRun(tmp_path_factory.mktemp("runs") / "fake").write()
    write_report(folder, title="lvmlite quickstart")
    hero(folder)
    return folder


class Outline(HTMLParser):
    """Collects what a test asks about a page, and complains of tags that do not balance."""

    VOID = ("img", "input", "meta", "source")

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data
        if self.open and self.open[-1] != "style":
            self.text += data

    def values(self, *names: str) -> list[str]:
        return [v for _, attributes in self.tags for k, v in attributes.items() if k in names and v is not None]


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "run")


def only(fake: FakeRun, *results: Result, **about: object) -> str:
    """The page of a run that has nothing but results."""
    fake.json("results.json", {"results": [dataclasses.asdict(r) for r in results], "machine": {}, "run": about})
    return write_report(fake.folder).read_text(encoding="utf-8")


def test_page_refers_to_nothing_outside_itself(page: str, outline: Outline) -> None:
    assert all(value.startswith("data:image/") for value in outline.values("src", "srcset"))
    assert all(value.startswith("#") for value in outline.values("href"))
    assert not {tag for tag, _ in outline.tags} & {"script", "link", "iframe", "object"}
    assert not re.search(r"url\(|@import|https?://|file:", page)
    assert len(page) < 10_000_000


def test_page_is_well_formed(page: str, outline: Outline) -> None:
    assert page.startswith("<!doctype html>")
    idents = outline.values("id")
    assert len(idents) == len(set(idents))
    assert {value[1:] for value in outline.values("href")} <= set(idents)
    assert set(outline.values("aria-labelledby")) <= set(idents)
    levels = [int(tag[1]) for tag, _ in outline.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_everything_measured_is_there_and_in_order(outline: Outline) -> None:
    order = [
        *("lvmlite quickstart", "One query, three prompts, three answers", "One prompt, three queries"),
        *("Next frames, beside the truth", "Ladder", "(a) The prompt's task is recognised"),
        *("(b) The answer is that of its query", "(c) The prompt's own palette is used", "(d) Sampled answers"),
        *("Worst cases", "Next frames", "Nats per token of the next frame", "Segmentation", "Speed"),
        *("16 × 256 against 1 × 4096 tokens", "Training", "Loss, single", "Loss, sequences"),
        *("Loss, tokenizer", "Stages", "Reconstruction", "Through the tokenizer"),
        *("Photos through the tokenizer", "Machine and time", "Time of each step", "Recipe", "Data and licences"),
    ]
    found = [outline.headings.index(heading) for heading in order]
    assert found == sorted(found)
    for said in (
        "0.964 (0.941–0.981)",
        "0.351",
        "ground truth rec.",
        "2,362",
        "ln 1,024",
        "1 min 00 s, earlier",
        "7 min 00 s",
    ):
        assert said in outline.text
    assert "steps: 800" in outline.text
    assert "Apache-2.0" in outline.text
    assert "created 2026-01-05 10:20 ·" in outline.text


def test_verdict_states_the_measured_numbers(outline: Outline) -> None:
    assert "chosen in 96.4% of held-out queries (chance 16.7%)" in outline.text
    assert "61.2% (chance 25.0%)" in outline.text


def test_every_picture_has_words(outline: Outline) -> None:
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    films = [attributes for tag, attributes in outline.tags if (attributes.get("class") or "").startswith("film")]
    assert len(films) == 12
    assert all("Animation of 4 frames" in (film["aria-label"] or "") for film in films)
    assert sum(image["alt"] == "" for image in images) == 12 * 4  # the frames, which the film's words stand for
    said = [image["alt"] or "" for image in images]
    assert sum("drawn by the model" in words for words in said) == 3 + 3 + 2
    assert any(words.startswith("Chart: Loss, single") and "ln 1,024 = 6.93" in words for words in said)


def test_sheet_frames_generated_pictures_in_red_outside_the_picture(run: Path) -> None:
    sheet = decode(run / "report" / "one-query-three-prompts.png")
    red = (sheet == np.array(RED, np.uint8)).all(2)
    ys, xs = np.nonzero(red)
    column = sheet[:, xs.min() : xs.max() + 1]
    assert column.shape[1] == 2 * SIZE + 2 * 4, "one column of pictures at twice their size is framed, by 4 pixels"
    for i in range(3):
        drawn = decode(run / "evaluation" / f"q{i}-3.png").repeat(2, 0).repeat(2, 1)
        top = ys.min() + 4 + i * (2 * SIZE + 4)
        np.testing.assert_array_equal(column[top : top + 2 * SIZE, 4:-4], drawn)
        assert red[top : top + 2 * SIZE, xs.min()].all()


def test_page_embeds_the_very_bytes_of_the_pictures(run: Path, page: str) -> None:
    for name in ("q0-3.png", "p2-5.png", "v1-1-3.png"):
        assert base64.b64encode((run / "evaluation" / name).read_bytes()).decode() in page


def test_animation_is_written_with_every_frame(run: Path) -> None:
    from PIL import Image

    with Image.open(run / "report" / "next-frames.webp") as animation:
        assert animation.n_frames == 4  # type: ignore[attr-defined]
    strips = decode(run / "report" / "next-frames.png")
    assert strips.shape[0] >= 12 * 2 * SIZE
    assert strips.shape[1] >= 4 * 2 * SIZE


def test_hero_shows_three_framed_answers(run: Path) -> None:
    picture = decode(run / "report" / "hero.png")
    assert picture.shape[1] > 6 * 3 * SIZE
    red = (picture == np.array(RED, np.uint8)).all(2)
    assert (np.diff(red.any(1).astype(int)) == 1).sum() == 3
    assert (np.diff(red.any(0).astype(int)) == 1).sum() == 1


def test_hero_without_generated_pictures_says_so(fake: FakeRun) -> None:
    only(fake, Result("speed"))
    with pytest.raises(ValueError, match="no figure of generated pictures"):
        hero(fake.folder)


def test_the_same_run_gives_the_same_page(run: Path, page: str) -> None:
    assert write_report(run, title="lvmlite quickstart").read_text(encoding="utf-8") == page


def test_text_is_escaped_everywhere(fake: FakeRun) -> None:
    evil = """<script>alert("1")</script>&'"""
    figure = Figure(evil, evil, [evil], [[fake.cell("a", scene(0)["image"], evil, True)]], evil)
    curve = Curve(evil, evil, evil, evil, {evil: [(1, 2), (2, 3)]}, evil)
    result = Result(evil, {evil: evil}, {evil: evil}, [Table(evil, evil, [evil], [[evil]], evil)], [figure], [curve])
    fake.json(
        "results.json", {"results": [dataclasses.asdict(result)], "machine": {evil: evil}, "run": {"recipe": evil}}
    )
    fake.json("steps.json", [{"step": evil, "seconds": 1, "detail": evil}])
    (fake.folder / "recipe.yaml").write_text(evil, encoding="utf-8")
    page = write_report(fake.folder, title=evil).read_text(encoding="utf-8")
    assert "<script" not in page
    outline = Outline(page)
    assert not {tag for tag, _ in outline.tags} & {"script"}
    assert outline.text.count(evil) >= 14
    assert (fake.folder / "report" / "script-alert-1-script.png").is_file(), "names lead nowhere outside report/"


def test_empty_folder_gives_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    outline = Outline(write_report(tmp_path).read_text(encoding="utf-8"))
    for said in (
        "Nothing was measured in this run.",
        "results.json is not there",
        "steps.json is not there",
        "“next frames”: not in this run",
        "The ladder was not measured",
        "recipe.yaml is not there",
        "licences are not recorded",
    ):
        assert said in outline.text


def test_points_without_a_value_are_left_out(fake: FakeRun) -> None:
    curve = Curve("c", "C", "x", "y", {"a": [(1, 2), (2, float("nan")), (3, 4)], "b": [(1, float("inf"))]})
    outline = Outline(only(fake, Result("x", curves=[curve, Curve("d", "D", "x", "y", {})])))
    (words,) = outline.values("alt")
    assert "a: from 2 at 1 to 4 at 3" in words
    assert "b:" not in words
    assert "D: no point was measured." in outline.text


def test_logs_may_be_missing_short_or_strange(fake: FakeRun) -> None:
    stages = {}
    for name, text in {
        "none": None,
        "empty": "",
        "one": '{"step": 3, "loss": 2.5}\n',
        "odd": '5\n{"loss": 1}\n',
    }.items():
        stages[name] = fake.folder / f"{name}.jsonl"
        if text is not None:
            stages[name].write_text(text, encoding="utf-8")
    outline = Outline(write_report(fake.folder, logs=stages).read_text(encoding="utf-8"))
    assert "The log of none is not there" in outline.text
    assert [heading for heading in outline.headings if heading.startswith("Loss")] == ["Loss, one"]


def test_missing_and_broken_pictures_are_named(fake: FakeRun) -> None:
    good = fake.cell("good", scene(0)["image"])
    (fake.folder / "evaluation" / "torn.png").write_bytes(encode_png(scene(1)["image"])[:200])
    fake.save("../outside.png", scene(2)["image"])
    row = [good, Cell(["gone.png"]), Cell(["torn.png"]), Cell(["../outside.png"]), Cell()]
    outline = Outline(only(fake, Result("x", figures=[Figure("f", "F", ["a", "b", "c", "d", "e"], [row])])))
    assert "gone.png: not there" in outline.text
    assert "torn.png: truncated file" in outline.text
    assert "../outside.png: not there" in outline.text
    assert sum(tag == "img" for tag, _ in outline.tags) == 1
    assert (fake.folder / "report" / "f.png").is_file()


def test_figures_and_tables_of_one_name_do_not_collide(fake: FakeRun) -> None:
    figures = [Figure("f", "F", ["a"], [[fake.cell(f"a{i}", scene(i)["image"])]]) for i in range(2)]
    results = [Result("x", {}, {}, [Table("t", "T", ["a"], [[i]])], [figures[i]]) for i in range(2)]
    outline = Outline(only(fake, *results))
    assert len(outline.values("id")) == len(set(outline.values("id")))
    sheets = [decode(fake.folder / "report" / name) for name in ("f.png", "f-2.png")]
    assert (sheets[0] != sheets[1]).any()


def test_pictures_of_several_sizes_share_a_sheet(fake: FakeRun) -> None:
    big = np.kron(scene(0)["image"], np.ones((2, 2, 1), np.uint8))
    row = [fake.cell("big", big), fake.cell("small", scene(1)["image"], generated=True)]
    only(fake, Result("x", figures=[Figure("f", "F", ["a", "b"], [row, row[:1]])]))
    assert (fake.folder / "report" / "f.png").is_file()


def test_heavy_pictures_are_compressed(fake: FakeRun) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    cells = [fake.cell(f"n{i}", noise + np.uint8(i)) for i in range(12)]
    page = only(fake, Result("x", figures=[Figure("f", "F", ["a"] * 12, [cells])]))
    assert "data:image/webp" in page
    assert len(page) < 10_000_000


def test_rows_of_another_length_are_an_error(fake: FakeRun) -> None:
    with pytest.raises(ValueError, match="table 't': a row of 1 cells under 2 columns"):
        only(fake, Result("x", tables=[Table("t", "T", ["a", "b"], [[1]])]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("results.json", '{"results": [', "results.json: not JSON"),
        ("results.json", "[]", "results.json: expected a JSON object"),
        ("results.json", '{"results": [{"protocol": 3}]}', r"results.json: results\[0\].protocol: expected text"),
        ("results.json", '{"results": {"a": 1}}', "results.json: results: expected a list"),
        ("results.json", '{"results": [{"protocol": "x", "curves": [{}]}]}', r"results\[0\].curves\[0\].name: missing"),
        ("steps.json", "{}", "steps.json: expected a JSON list"),
        ("steps.json", '[{"step": "a", "seconds": "long"}]', r"steps.json: steps\[0\].seconds"),
        ("results.json", '{"results": [{"protocol": "x", "curves": 5}]}', r"results\[0\].curves: expected a list"),
        ("model/lvmlite.json", "nonsense", "lvmlite.json: not JSON"),
    ],
)
def test_broken_files_give_one_clear_line(fake: FakeRun, name: str, content: str, said: str) -> None:
    (fake.folder / "model").mkdir()
    (fake.folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=said) as caught:
        write_report(fake.folder)
    assert "\n" not in str(caught.value)


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such run folder"):
        write_report(tmp_path / "typo")


def test_loss_charts_mark_the_loss_of_guessing_and_share_their_range() -> None:
    logs = {
        "tokenizer": [{"step": 1, "loss": 0.5}],
        "one": [{"step": s, "loss": 6.9 - s / 100, "val_loss": 6.0} for s in range(1, 101)],
        "two": [{"step": 1, "loss": 4.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 3.0}],
        "empty": [],
    }
    charts = loss_charts(logs, 512)
    assert list(charts) == ["tokenizer", "one", "two"]
    assert charts["tokenizer"].level is None
    assert charts["one"].level == ("ln 512 = 6.24", math.log(512))
    assert charts["one"].y_range == charts["two"].y_range
    assert charts["one"].y_range is not None
    low, high = charts["one"].y_range
    assert low < 3.0
    assert high > 6.9
    assert [line.points for line in charts["two"].lines] == [[(1, 4.0), (3, 3.0)]]
    assert [line.name for line in charts["one"].lines] == ["", "training", "held out"]


def test_smooth_follows_a_straight_line_and_averages_noise() -> None:
    line = [(float(x), 10.0 - x) for x in range(9)]
    assert [y for _, y in smooth(line, 3)] == pytest.approx([y for _, y in line])
    noisy = smooth([(float(x), float(x % 2)) for x in range(9)], 1)
    assert [y for _, y in noisy] == pytest.approx([0, *([1 / 3, 2 / 3] * 3), 1 / 3, 0])


def test_number_rounds_for_reading() -> None:
    values = [0.97, 0.0, 7, 12345, 1234.5, -0.5, 999.7, 0.00001234, None, float("nan"), float("inf"), True, "a"]
    said = ["0.970", "0", "7", "12,345", "1,234", "−0.500", "1,000", "1.23e-05", "–", "n/a", "∞", "yes", "a"]
    assert [number(v) for v in values] == said


def test_duration_carries_over() -> None:
    assert [duration(s) for s in (0.25, 12.3, 59.97, 119.6, 3599.7, 7500)] == [
        *("0.25 s", "12.3 s", "1 min 00 s", "2 min 00 s", "1 h 00 min", "2 h 05 min")
    ]


def test_el_escapes_children_and_attributes() -> None:
    assert el("p", "a < b", el("b", "c"), None, title='"') == '<p title="&quot;">a &lt; b<b>c</b></p>'
    assert el("input", checked=True, disabled=False, aria_label="x") == '<input checked aria-label="x">'


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_browser_opens_the_page_from_disk(run: Path, width: int, scheme: str) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "this test needs a browser: apt-get install -y --no-install-recommends chromium"
    said: list[str] = []
    asked: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("requestfailed", lambda request: said.append(f"failed: {request.url[:80]}"))
        tab.on("request", lambda request: asked.append(request.url.split(":")[0]))
        tab.goto((run / "report" / "index.html").as_uri())
        sizes = tab.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
        showing = "[...document.querySelectorAll('.film')].map(f => [...f.children].filter(i => getComputedStyle(i).opacity > 0).length)"  # noqa: E501
        frames = tab.evaluate(showing)
        tab.check(".pause input")
        held = tab.evaluate("getComputedStyle(document.querySelector('.film img')).animationPlayState")
        overflow = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        nav = tab.evaluate("document.querySelector('nav').getBoundingClientRect().top")
        tab.emulate_media(reduced_motion="reduce")
        still = tab.evaluate(showing)
        browser.close()
    assert said == []
    assert asked.count("file") == 1
    assert set(asked) <= {"file", "data"}
    assert len(sizes) > 100
    assert min(sizes) > 0
    assert frames == [1] * 12, "one frame at a time"
    assert held == "paused"
    assert still == [4] * 12, "all frames, side by side"
    assert overflow <= 0, "nothing but tables may be wider than the screen"
    assert width < 1280 or nav < 800, "the first screen holds the three figures"
