"""What a run folder says, read once: results, steps, logs, recipe, licences.

In: a run folder, whole or partial. Out: `Run`. Absent pieces are listed in `Run.missing`, in words; a piece that
is there but cannot be understood is the user's to know about: ValueError.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lvmlite.evaluate.results import Figure, Result
from lvmlite.recipe import RecipeError, build
from lvmlite.recipe.files import read
from lvmlite.train.log import read_log

INSIDE = ("model", "tokens")  # folders of a run that are named with their files


@dataclass
class Step:
    """One step of the pipeline. `skipped`: done by an earlier call, which took `seconds`."""

    step: str
    seconds: float = 0.0
    skipped: bool = False
    detail: str = ""


@dataclass
class _Steps:
    steps: list[Step]


@dataclass
class _Head:
    """`results.json`."""

    results: list[Result] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Model:
    """What the report asks of `lvmlite.json`, or of `store.json` where there is no model."""

    codebook_size: int = 0
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Run:
    """A run folder in memory.

    Attributes:
        about: recipe, created, version and whatever else `results.json` says under "run".
        steps: `steps.json`.
        logs: stage name -> lines of its log.jsonl, in training order; "tokenizer" is the tokenizer's.
        codebook_size: of the tokenizer; 0 is unknown.
        sources: source name -> licence.
        trains_model: False where the recipe has no stages: then the tokenizer is all there is.
        missing: a line for each piece that is not there.
    """

    folder: Path
    results: list[Result] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    recipe: str = ""
    codebook_size: int = 0
    sources: dict[str, str] = field(default_factory=dict)
    trains_model: bool = True
    missing: list[str] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        return [figure for result in self.results for figure in result.figures]


def read_run(folder: Path, logs: Mapping[str, Path] | None = None) -> Run:
    """Read a run folder.

    Args:
        folder: the run.
        logs: stage name -> log.jsonl; None looks for `tokenizer/log.jsonl` and `stages/*/log.jsonl`.

    Raises:
        ValueError: the folder does not exist, or a file of it holds something else than it should.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such run folder; give the folder that `lvmlite run` wrote")
    run = Run(folder)
    found = _json(folder / "results.json", dict, run.missing, "nothing was measured")
    head = build(_Head, _finite(found), file=str(folder / "results.json"))
    run.results, run.machine, run.about = head.results, head.machine, head.run
    steps = _json(folder / "steps.json", list, run.missing, "the time of each step is unknown")
    run.steps = build(_Steps, {"steps": steps}, file=str(folder / "steps.json")).steps
    if (folder / "recipe.yaml").is_file():
        run.recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
        run.trains_model = _has_stages(folder / "recipe.yaml")
    path = folder / "model" / "lvmlite.json" if run.trains_model else folder / "tokens" / "store.json"
    model = _json(path, dict, run.missing, "codebook size and licences are unknown")
    about = build(_Model, {f.name: model[f.name] for f in fields(_Model) if f.name in model}, file=str(path))
    run.codebook_size = about.codebook_size
    run.sources = {name: str(source.get("licence") or "") for name, source in about.sources.items()}
    for name, path in (_find_logs(folder) if logs is None else logs).items():
        if path.is_file():
            run.logs[name] = [line for line in read_log(path) if isinstance(line, dict)]
        else:
            run.missing.append(f"The log of {name} is not there: its loss curve is left out.")
    return run


def points(lines: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) of one quantity of a log, where it is there and finite."""
    return [
        (float(line["step"]), float(line[name]))
        for line in lines
        if isinstance(line.get(name), int | float) and "step" in line and math.isfinite(line[name])
    ]


def _has_stages(path: Path) -> bool:
    """Whether a recipe trains a model; a file that is no recipe is taken to."""
    try:
        return bool(read(path).get("stages", []))
    except RecipeError:
        return True


def _find_logs(folder: Path) -> dict[str, Path]:
    """Logs at their usual places; stages in the order in which they began."""
    stages = sorted((folder / "stages").glob("*/log.jsonl"), key=lambda path: (path.stat().st_mtime, path))
    tokenizer = folder / "tokenizer" / "log.jsonl"
    first = {"tokenizer": tokenizer} if tokenizer.is_file() else {}
    return first | {path.parent.name: path for path in stages}


def _json(path: Path, kind: type, missing: list[str], meaning: str) -> Any:
    """A JSON file of a mapping or list; an empty one where it is not there, and a line in `missing`."""
    if not path.is_file():
        missing.append(
            f"{path.parent.name + '/' if path.parent.name in INSIDE else ''}{path.name} is not there: {meaning}."
        )
        return kind()
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: None)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); delete it and run again") from None
    if not isinstance(found, kind):
        raise ValueError(f"{path}: expected a JSON {'object' if kind is dict else 'list'}; delete it and run again")
    return found


def _finite(found: dict[str, Any]) -> dict[str, Any]:
    """Leaves out points of curves that have no value. Whatever has another shape than it should, stays."""
    results = found.get("results")
    for entry in results if isinstance(results, list) else []:
        curves = entry.get("curves") if isinstance(entry, dict) else None
        for curve in curves if isinstance(curves, list) else []:
            if isinstance(curve, dict) and isinstance(curve.get("lines"), dict):
                lines = curve["lines"].items()
                curve["lines"] = {name: _with_values(line) for name, line in lines}
    return found


def _with_values(line: Any) -> Any:
    return [p for p in line if not (isinstance(p, list) and None in p)] if isinstance(line, list) else line
