"""The pages of docs/ are true: recipes load, tables equal the registries, links resolve, the task shown works."""

import contextlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from lvmlite import recipe
from lvmlite.cli import parser
from lvmlite.data.sentences import SENTENCES
from lvmlite.data.sources import SOURCES, build_source
from lvmlite.data.sources.base import Reject
from lvmlite.interop.vqgan_keys import FORMATS
from lvmlite.metrics import METRICS
from lvmlite.model.flops import PUBLISHED_SPEEDUP, device_hours, forward_flops, recipe_speedup, training_flops
from lvmlite.sample import ANNOTATIONS
from lvmlite.schema import load_recipe
from lvmlite.tasks import TASKS
from lvmlite.tasks.base import Task
from lvmlite.tokenizers.quantizers import QUANTIZERS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
WALK = (ROOT / "docs" / "bring-your-own-data.md").read_text(encoding="utf-8")


def blocks(text, language):
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def table(heading):
    """First cell, a name -> the cells after it, of the table under a heading of the walk-through."""
    (section,) = re.findall(rf"^## \d+\. {heading}\n(.*?)(?=^## |\Z)", WALK, re.DOTALL | re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    assert rows
    names = [row[0].strip("`") for row in rows]
    assert len(set(names)) == len(names)
    return {name: row[1:] for name, row in zip(names, rows, strict=True)}


def imported(path):
    """The module of a file, which stays in sys.modules: there dataclasses look up their annotations."""
    spec = importlib.util.spec_from_file_location(f"shown_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


YAML = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "yaml")]
RECIPES = [block for block in YAML if re.search("^name:", block, re.MULTILINE)]
PARTS = [block for block in YAML if block not in RECIPES]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """What the script of the page writes, of fewer pictures."""
    folder = tmp_path_factory.mktemp("toys")
    (script,) = (block for block in blocks(WALK, "python") if block.startswith('"""Writes mine/'))
    fewer = {"scenes(240,": "scenes(1,", "scenes(120)": "scenes(8)", "scenes(12, frames=60)": "scenes(2, frames=6)"}
    for many, few in fewer.items():
        assert many in script
        script = script.replace(many, few)
    (folder / "toys.py").write_text(script, encoding="utf-8")
    with contextlib.chdir(folder):
        imported(folder / "toys.py")
    return folder


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: re.search(r"^name: (\w+)", text, re.MULTILINE)[1])
def test_recipes_load_and_their_sources_find_the_toys(text, tmp_path, toys, monkeypatch):
    (tmp_path / "shown.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")  # some extend those that come with lvmlite
    config = load_recipe(tmp_path / "shown.yaml")
    monkeypatch.chdir(toys)
    assert config.data.sources or config.data.stores
    for source in config.data.sources:
        assert sum(len(part.items) for part in build_source(source, 0).parts())


@pytest.mark.parametrize("text", PARTS, ids=lambda text: " ".join(text.split()[:4]))
def test_parts_of_recipes_fit_into_one(text, tmp_path):
    whole = yaml.safe_load((ROOT / "recipes" / "tokenizers" / "nano.yaml").read_text(encoding="utf-8"))
    (tmp_path / "shown.yaml").write_text(yaml.safe_dump(whole | yaml.safe_load(text)), encoding="utf-8")
    assert load_recipe(tmp_path / "shown.yaml").tokenizer.train.pictures


def first_cells(page, header):
    """The names in the first column of the table of a page that begins with a header."""
    (rows,) = re.findall(rf"^\| {re.escape(header)} \|.*\n\|-.*\n((?:\|.*\n)+)", page, re.MULTILINE)
    return {name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_tables_of_tokenizers_name_what_is_there():
    page = (ROOT / "docs" / "tokenizers.md").read_text(encoding="utf-8")
    assert first_cells(page, "quantiser") == set(QUANTIZERS)
    assert first_cells(page, "`--format`") == set(FORMATS)


def hours_of(config, first=None):
    """H100-hours at MFU 40% of a recipe of the paper, its first stage in sentences of `first` pictures."""
    arch = config.model.resolve(8192)
    shapes = [
        (stage.train.steps * stage.train.batch_size * stage.data.pictures * 256, stage) for stage in config.stages
    ]
    pictures = [first or shapes[0][1].data.pictures, *(stage.data.pictures for _, stage in shapes[1:])]
    flops = sum(training_flops(arch, n * 256, tokens) for n, (tokens, _) in zip(pictures, shapes, strict=True))
    return device_hours(flops, 989e12, 0.4)


def test_costs_are_what_the_arithmetic_gives():
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(paper/[\w-]+)` \|(.*)\|$", page, re.MULTILINE)
    assert len(rows) == 6
    for name, rest in rows:
        *_, hours, days, random = (cell.strip().replace(",", "") for cell in rest.split("|"))
        config = load_recipe(name)
        assert hours == f"{hours_of(config):.0f}", name
        assert days == f"{hours_of(config) / 8 / 24:.1f}", name
        assert random == ("" if len(config.stages) == 1 else f"{hours_of(config, first=16):.0f}"), name
        opening = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        assert f"{hours_of(config):,.0f} H100-hours at MFU 40%" in opening, name


def test_speedups_are_what_the_arithmetic_gives():
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    for preset, claimed in PUBLISHED_SPEEDUP.items():
        (row,) = re.findall(rf"^\| {preset} \|(.*)\|$", page, re.MULTILINE)
        arch = load_recipe(f"paper/{preset}").model.resolve(8192)
        r = forward_flops(arch, 4096) / 16 / forward_flops(arch, 256)
        whole, ablation, if_claimed = (
            recipe_speedup(ratio, *epochs)
            for ratio, epochs in ((r, (800, 300)), (r, (200, 100)), (claimed, (200, 100)))
        )
        numbers = [cell.strip() for cell in row.split("|")][:5]
        assert numbers == [f"{x:.2f}x" for x in (r, whole, ablation)] + [f"{claimed}x", f"{if_claimed:.2f}x"]


def test_rejects_are_those_shown(toys, tmp_path, monkeypatch):
    monkeypatch.chdir(toys)
    (text,) = (text for text in RECIPES if "name: pairs" in text)
    (tmp_path / "pairs.yaml").write_text(text, encoding="utf-8")
    source = build_source(load_recipe(tmp_path / "pairs.yaml").data.sources[0], 0)
    rejects = [x for part in source.parts() for x in source.samples(part) if isinstance(x, Reject)]
    assert rejects == [Reject("007", "partner is missing: classes")]
    assert '{"source": "masks", "key": "007", "reason": "partner is missing: classes"}' in WALK


def test_tables_name_what_is_registered():
    assert set(table("Sources")) == set(SOURCES)
    assert set(table("Tasks")) == set(TASKS)
    assert set(table("Sentences")) == set(SENTENCES)


def test_tables_say_what_the_classes_say():
    for name, (_, gives) in table("Sources").items():
        fixed = SOURCES[name][1].annotations  # empty where it depends on the settings
        if isinstance(fixed, tuple):
            assert set(fixed) <= set(re.findall(r"\w+", gives)), name
            assert fixed == () or set(re.findall(r"\w+", gives)) & set(ANNOTATIONS) == set(fixed), name
    for name, (_, _, metrics) in table("Tasks").items():
        assert tuple(metrics.split(", ")) == TASKS[name].metrics, name


def test_reasons_explained_are_given():
    """What the table of rejects quotes, up to names and numbers (X, N, ...), stands in the code."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "lvmlite").rglob("*.py"))
    (rows,) = re.findall(r"^\| reason .*\n\|-.*\n((?:\|.*\n)+)", WALK, re.MULTILINE)
    reasons = [name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(reasons) > 30
    for reason in reasons:
        assert max(re.split(r"\bX\b|\bN\b|\.\.\.", reason), key=len).strip(" :") in code, reason


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8")))
    assert found
    for link in found:
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", without_code(target.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings], link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_commands_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:lvmlite|recipes|benchmarks|tests)/[\w/.-]+\.(?:py|yaml))`", text):
        assert (ROOT / name).is_file() or name == "lvmlite/tasks/posterise.py", name
    for line in re.findall(r"^\$ lvmlite (.*)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        args, rest = parser().parse_known_args(words)  # leaves by SystemExit if it is wrong
        assert hasattr(args, "run"), line
        assert all("=" in word for word in rest), line


def test_pictures_are_small():
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", WALK):
        assert (ROOT / "docs" / name).stat().st_size < 300_000


# --- the task that is shown


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The task of the page as a module."""
    (text,) = (block for block in blocks(WALK, "python") if "(Task)" in block)
    path = tmp_path_factory.mktemp("task") / "posterise.py"
    path.write_text(text, encoding="utf-8")
    return imported(path)


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_the_task_shown_keeps_the_contract(shown, levels):
    config = recipe.build(shown.PosteriseConfig, {"task": "posterise", "levels": levels})
    task = shown.Posterise(config)
    assert isinstance(task, Task)
    assert set(task.metrics) <= set(METRICS)
    photo = np.random.default_rng(levels).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    before = photo.copy()
    steps = task.derive(photo, np.random.default_rng(0))
    assert (steps.min(), steps.max()) == (1, levels)
    picture = task.render(steps, image=photo)
    assert (picture.shape, picture.dtype) == (photo.shape, np.uint8)
    assert np.array_equal(task.read(picture), steps)
    noise = np.random.default_rng(1).integers(-5, 6, picture.shape)
    assert np.array_equal(task.read((picture + noise).clip(0, 255).astype(np.uint8)), steps)
    assert set(np.unique(task.read(photo))) <= set(range(1, levels + 1))
    assert np.array_equal(photo, before)
    for name in task.metrics:
        metric = METRICS[name]()
        metric.update(task.read(picture), steps)
        assert metric.compute() == pytest.approx(1)


def test_the_task_shown_refuses_bad_settings(shown):
    with pytest.raises(ValueError, match="levels"):
        recipe.build(shown.PosteriseConfig, {"task": "posterise", "levels": 1})
