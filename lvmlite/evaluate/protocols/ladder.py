"""The ladder of in-context learning: four rungs, each with its chance level and an interval. EVIDENCE of the project.

In: a bench with held-out scenes that have several kinds. Out: (a) task, (b) query, (c) binding, (d) free-running, and
nats per token under every condition. A ratio of right to wrong prompts proves little and is only shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np

from lvmlite.evaluate.bench import Bench
from lvmlite.evaluate.protocols.answers import AnswersConfig, answer_table, free_answers, worst_cases
from lvmlite.evaluate.protocols.base import Progress, Protocol
from lvmlite.evaluate.protocols.binding import WRONG, binding_kinds, binding_rung
from lvmlite.evaluate.protocols.likelihood import nats, share
from lvmlite.evaluate.protocols.rungs import CONDITIONS, QUERIES, Tables, query_tables, task_rung
from lvmlite.evaluate.results import Result, Table, Value
from lvmlite.metrics import mean_interval
from lvmlite.recipe import Range

GOALS = {"task": 0.95, "query": 0.75, "binding": 0.80}


@dataclass(frozen=True)
class LadderConfig:
    """What is measured on, and how much of it.

    Attributes:
        source: of prompts (train) and queries (test).
        kinds: default all that its test frames have.
        pairs: numbers of prompt pairs; those that do not fit the trained context are left out.
        task_queries: queries of rung (a), each with a prompt of its own for every kind.
        query_tables: 4 x 4 tables of rung (b) for each kind, also used for the conditions.
        binding_queries: queries of rung (c); 0 leaves it out.
        answers: rung (d), for every kind.
        worst: of each kind in the figure of worst cases.
    """

    protocol: Literal["ladder"] = "ladder"
    source: str = "world"
    kinds: list[str] | None = None
    pairs: tuple[int, ...] = (1, 3)
    task_queries: Annotated[int, Range(1)] = 24
    query_tables: Annotated[int, Range(1)] = 6
    binding_queries: Annotated[int, Range(0)] = 48
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    worst: Annotated[int, Range(0)] = 1

    def __post_init__(self) -> None:
        if not self.pairs or min(self.pairs) < 1:
            raise ValueError(f"pairs must be numbers of at least 1, got {list(self.pairs)}; zero pairs come always")


class Ladder(Protocol):
    """All four rungs. Raises ValueError where the store lacks the source, the kinds or enough scenes."""

    def __init__(self, config: LadderConfig):
        self.config = config

    def run(self, bench: Bench, progress: Progress) -> Result:
        c = self.config
        kinds = _kinds(bench, c)
        pairs = sorted({p for p in c.pairs if 2 * p + 2 <= bench.max_pictures})
        if not pairs:
            raise ValueError(f"no number of pairs in {list(c.pairs)} fits a context of {bench.max_pictures} pictures")
        bound = binding_kinds(bench, c.source)[: 1 if c.binding_queries else 0]
        total = c.task_queries + c.query_tables * len(kinds) + c.binding_queries * len(bound) + len(kinds) * QUERIES
        done = 0

        def tick(n: int = 1) -> None:
            nonlocal done
            done += n
            progress(min(done, total), total)

        result = Result(c.protocol)
        rows: list[list[Value]] = []
        _task_rows(result, rows, kinds, task_rung(bench, c.source, kinds, c.task_queries, pairs, tick))
        tables = query_tables(bench, c.source, kinds, c.query_tables, pairs, tick)
        _query_rows(result, rows, kinds, tables)
        for kind in bound:
            _binding_rows(result, rows, kind, binding_rung(bench, c.source, kind, c.binding_queries, pairs, tick))
        if not bound and c.binding_queries:
            rows.append(["(c) binding: not measured, no kind has palettes drawn per sentence", *[None] * 8])
        result.tables.append(Table("ladder", "The ladder: does the model read its prompt?", COLUMNS, rows, NOTE))
        result.tables += _condition_tables(result, bench.columns, kinds, tables)
        answers = []
        for kind in kinds:
            answers.append(free_answers(bench, c.source, kind, c.answers))
            tick(QUERIES)
        result.tables.append(answer_table("free-running", "(d) Free-running answers, read back and scored", answers))
        if c.worst:
            result.figures.append(worst_cases(bench, answers, c.worst))
        return result


def _kinds(bench: Bench, config: LadderConfig) -> list[str]:
    known = bench.kinds(config.source)
    kinds = known if config.kinds is None else config.kinds
    if unknown := [kind for kind in kinds if kind not in known]:
        raise ValueError(f"source '{config.source}' has no kind {', '.join(unknown)}; it has {', '.join(known)}")
    if not kinds:
        raise ValueError(f"source '{config.source}' has no test frames with annotations; the ladder needs some")
    bench.pool("test", config.source, kinds)  # says so if no frame has them all
    return kinds


COLUMNS = ["rung", "kind", "pairs", "right", "95% low", "95% high", "chance", "goal", "groups"]
NOTE = (
    "Share of trials in which the true answer wins; a tie counts its share. (a): among the candidate answers of one "
    "query, the greatest gain of log p over no prompt is the prompted kind's. (b): in tables of 4 queries and 4 "
    "answers, each entry less its answer's mean, the true answer wins. (c): the true palette against the same colours "
    "on other classes; gain: over no prompt, so at chance with zero pairs by construction; raw: as it stands. "
    "Intervals: Wilson at the effective number of trials, over other scenes and prompts (each group has its own)."
)


def _row(rung: str, kind: str, pairs: int, credits: np.ndarray, chance: float, goal: float | None) -> list[Value]:
    return [rung, kind, pairs, *share(credits), chance, goal, len(credits)]


def _headline(result: Result, name: str, credits: np.ndarray, chance: float) -> None:
    value, low, high = share(credits)
    result.values |= {name: value, f"{name}/low": low, f"{name}/high": high, f"{name}/chance": chance}


def _task_rows(result: Result, rows: list[list[Value]], kinds: Sequence[str], found: dict[int, np.ndarray]) -> None:
    chance = 1 / len(kinds)
    rung = f"(a) task, {len(kinds)} candidates"
    nothing = np.full((len(next(iter(found.values()))), len(kinds)), chance)
    rows.append([rung, "all", 0, chance, None, None, chance, None, len(nothing)])
    for p, credits in found.items():
        _headline(result, f"task/{p}", credits, chance)
        rows.append(_row(rung, "all", p, credits, chance, GOALS["task"]))
        rows += [_row(rung, kind, p, credits[:, [t]], chance, None) for t, kind in enumerate(kinds)]


def _query_rows(result: Result, rows: list[list[Value]], kinds: Sequence[str], tables: Tables) -> None:
    chance, names = 1 / QUERIES, np.array(tables.kinds)
    for p, credits in tables.credits.items():
        _headline(result, f"query/{p}", credits, chance)
        rows.append(_row("(b) query", "all", p, credits, chance, GOALS["query"] if p else None))
        rows += [_row("(b) query", kind, p, credits[names == kind], chance, None) for kind in kinds]


def _binding_rows(
    result: Result, rows: list[list[Value]], kind: str, found: dict[tuple[str, str, int], np.ndarray]
) -> None:
    for (score, wrong, p), credits in found.items():
        if not len(credits):
            rows.append([f"(c) binding: {kind}: no held-out query shows two classes", *[None] * 8])
            return
        goal = GOALS["binding"] if score == "gain" and p else None
        rows.append(_row(f"(c) binding, {wrong}, {score}", kind, p, credits, 0.5, goal))
        if (score, wrong) == ("gain", WRONG[0]):
            _headline(result, f"binding/{p}", credits, 0.5)
        else:
            _headline(result, f"binding/{wrong}/{score}/{p}", credits, 0.5)


def _condition_tables(result: Result, columns: int, kinds: Sequence[str], tables: Tables) -> list[Table]:
    """Nats per token of the true answer: over all kinds with intervals, and for each kind."""
    parts = {key: [part.mean(1) for part in nats(logp, columns)] for key, logp in tables.conditions.items()}
    numbers = [p for p in tables.credits if p]
    rows: list[list[Value]] = []
    by_kind: list[list[Value]] = []
    names = np.array(tables.kinds)
    for p in numbers:
        right = parts[p, "right"]
        for condition in CONDITIONS:
            key = (0, "none") if condition == "none" else (p, condition)
            if key not in parts:
                continue
            first, rest = parts[key]
            gap, low, high = mean_interval(rest - right[1])
            here = [float(first.mean()), float(rest.mean())]
            above: list[Value] = [None] * 3 if condition == "right" else [gap, low, high]
            ratio = float(np.exp((right[1] - rest).mean()))
            rows.append([p, condition, *here, *above, ratio, len(rest)])
            result.values[f"nats/{p}/{condition}"] = here[1]
            if condition != "right":
                result.values |= {f"nats/{p}/{condition} - right": gap, f"nats/{p}/{condition} - right/low": low}
            by_kind.append([p, condition, *(float(rest[names == kind].mean()) for kind in kinds)])
    note = (
        "Means over the true answers of rung (b)'s tables. First row: of tokens, which reveals the task under teacher "
        "forcing; rest: all others. Above right: paired difference of the rest, 95% t-interval over tables. "
        "Shuffled: the prompt's annotations exchanged among its photos, so a model that reads the mapping must lose; "
        "it needs two pairs. Wrong task: pairs of another kind. Swapped query: another scene's photo before the "
        "answer. The ratio of perplexities is shown, it proves nothing."
    )
    head = ["pairs", "condition", "first row", "rest", "above right", "95% low", "95% high", "right / this", "tables"]
    title = "Nats per token of the true answer under each condition"
    return [
        Table("conditions", title, head, rows, note),
        Table("conditions-by-kind", f"{title}: rest, by kind", ["pairs", "condition", *kinds], by_kind),
    ]
