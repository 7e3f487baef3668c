"""Rung (d) of the ladder: answers drawn freely, read back and scored, beside three floors and the ceiling.

In: a bench, a kind, and how to sample. Out: pictures, and a metric per picture, to be pooled as a table needs.

The paper's setting is one prompt pair for all queries, top-k 100, temperature 1. One prompt hides the largest variance,
so several are drawn, and each answers all queries. Nothing here helps the model: no row is "assisted".

Legend: P prompts, N queries, S codes of a picture, H = W = size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from lvmlite.evaluate.bench import Bench, Frame, check_apart
from lvmlite.evaluate.ceiling import metric_names, one, pooled
from lvmlite.evaluate.protocols.floors import constants
from lvmlite.evaluate.results import Cell, Figure, Table, Value
from lvmlite.generate.sampling import Sampling
from lvmlite.metrics import METRICS, Metric, bootstrap
from lvmlite.recipe import Range

SAMPLED, GREEDY = "sampled, 1 pair", "greedy, 1 pair"
COPY, ZERO = "floor: copy the prompt's annotation", "floor: zero pairs, sampled"
CEILING = "ceiling: ground truth rec."


@dataclass(frozen=True)
class AnswersConfig:
    """How answers are drawn. Defaults are the paper's, but for the number of prompts.

    Attributes:
        n_queries: test frames, the same for every kind.
        n_prompts: prompt seeds; each draws one pair for all queries.
        temperature, top_k: of the sampled rows.
        greedy: also the likeliest code at every step, with the first prompt.
        n_train: train annotations from which the constants are computed.
    """

    n_queries: Annotated[int, Range(1)] = 16
    n_prompts: Annotated[int, Range(1)] = 5
    temperature: Annotated[float, Range(0)] = 1.0
    top_k: Annotated[int, Range(0)] = 100
    greedy: bool = True
    n_train: Annotated[int, Range(1)] = 128


@dataclass
class Answers:
    """What one kind came to.

    Attributes:
        queries: (N,) test frames. prompts: (P,) train frames.
        codes: (P, N, S) sampled codes.
        scores: row of the table -> metric -> (prompts, N) metrics of one picture each; prompts is 1 where there is
            but one. A query is a group: `queries` are of different groups.
    """

    kind: str
    queries: list[Frame]
    prompts: list[Frame]
    codes: np.ndarray
    scores: dict[str, dict[str, list[list[Metric]]]]


def free_answers(bench: Bench, source: str, kind: str, config: AnswersConfig) -> Answers:
    """Sample and score the answers of one kind. Made once in a run for equal settings."""
    return bench.shared(("answers", source, kind, config), lambda: _free_answers(bench, source, kind, config))


def _free_answers(bench: Bench, source: str, kind: str, config: AnswersConfig) -> Answers:
    queries, unprompted = bench.shared(("unprompted", source, config), lambda: _unprompted(bench, source, config))
    if kind not in bench.kinds(source):
        raise ValueError(f"source '{source}' has no kind '{kind}'; it has {', '.join(bench.kinds(source))}")
    prompts = bench.pool("train", source, [kind]).draw(config.n_prompts, bench.rng("answers", source, "prompts"))
    check_apart(prompts, queries)
    photos = bench.codes(queries)
    drawn = []
    for i, prompt in enumerate(bench.pair_codes(prompts, kind)):
        seed = bench.sampling_seed("answers", source, kind, i)
        sampling = Sampling(config.temperature, config.top_k, seed=seed)
        drawn.append(bench.engine.generate(prompt.ravel(), photos, bench.size, sampling).tokens[:, 0])
    codes = np.stack(drawn)
    answers = {SAMPLED: bench.decode(codes)}
    if config.greedy:
        first = bench.pair_codes(prompts[:1], kind).ravel()
        greedy = bench.engine.generate(first, photos, bench.size, Sampling(temperature=0)).tokens
        answers[GREEDY] = bench.decode(greedy[None, :, 0])
    answers[ZERO] = unprompted[None]
    answers[CEILING] = bench.decode(bench.codes(queries, kind))[None]
    return Answers(kind, queries, prompts, codes, _score(bench, source, kind, config, queries, prompts, answers))


def _unprompted(bench: Bench, source: str, config: AnswersConfig) -> tuple[list[Frame], np.ndarray]:
    """The queries, and what the model draws after each without a prompt: the same for every kind."""
    pool = bench.pool("test", source, bench.kinds(source))
    queries = pool.draw(config.n_queries, bench.rng("answers", source, "queries"))
    seed = bench.sampling_seed("answers", source, "unprompted")
    sampling = Sampling(config.temperature, config.top_k, seed=seed)
    nothing = np.zeros(0, np.int64)
    drawn = bench.engine.generate(nothing, bench.codes(queries), bench.size, sampling)
    return queries, bench.decode(drawn.tokens[:, 0])


def _score(
    bench: Bench,
    source: str,
    kind: str,
    config: AnswersConfig,
    queries: list[Frame],
    prompts: list[Frame],
    answers: dict[str, np.ndarray],
) -> dict[str, dict[str, list[list[Metric]]]]:
    task = bench.tasks[kind]
    truths, photos = [bench.truth(frame, kind) for frame in queries], bench.pictures(queries)
    read: dict[str, list[list[Any]]] = {
        row: [
            [task.read(picture, image=photo) for picture, photo in zip(some, photos, strict=True)] for some in pictures
        ]
        for row, pictures in answers.items()
    }
    read[COPY] = [[bench.truth(frame, kind)] * len(queries) for frame in prompts]
    train = bench.pool("train", source, [kind]).draw(config.n_train, bench.rng("constants", source))
    seen = [
        task.read(picture, image=photo) for picture, photo in zip(bench.pictures(train, kind), bench.pictures(train))
    ]
    for name, annotation in constants(task.metrics[0], seen).items():
        read[f"floor: {name}, from train"] = [[annotation] * len(queries)]
    order = sorted(read, key=lambda row: (row != SAMPLED, row != GREEDY, row == CEILING))
    return {
        row: {
            name: [[one(name, a, truth) for a, truth in zip(some, truths, strict=True)] for some in read[row]]
            for name in metric_names(task)
        }
        for row in order
    }


COLUMNS = ["kind", "metric", "answer", "value", "95% low", "95% high", "prompt seeds", "mean", "SD", "best", "worst"]


def answer_rows(answers: Answers) -> list[list[Value]]:
    """Rows of `COLUMNS`: every metric, every row."""
    rows: list[list[Value]] = []
    first = next(iter(answers.scores.values()))
    for name in first:
        up = METRICS[name].higher_is_better
        for row, by_metric in answers.scores.items():
            table = by_metric[name]
            groups = [pooled([some[q] for some in table]) for q in range(len(answers.queries))]
            low, high = bootstrap(groups)
            values = [pooled(some).compute() for some in table]
            spread: list[Value] = [None] * 4
            if len(values) > 1:
                best, worst = (max(values), min(values)) if up else (min(values), max(values))
                spread = [float(np.mean(values)), float(np.std(values, ddof=1)), best, worst]
            label = f"{name} ({'higher' if up else 'lower'} is better)"
            rows.append([answers.kind, label, row, pooled(groups).compute(), low, high, len(values), *spread])
    return rows


def answer_table(name: str, title: str, answers: Sequence[Answers]) -> Table:
    n = len(answers[0].queries) if answers else 0
    return Table(
        name,
        title,
        COLUMNS,
        [row for some in answers for row in answer_rows(some)],
        f"{n} held-out queries; one prompt pair answers all of them. Value: over all prompts and queries, with a "
        "bootstrap over the queries' groups. Mean, SD, best, worst: over prompt seeds. No row is assisted. "
        "Constants are computed on train: one value everywhere, or one for each pixel.",
    )


def show(bench: Bench, answers: Answers, places: Sequence[tuple[int, int]], name: str) -> list[list[Cell]]:
    """Rows of a figure for (prompt, query) places: prompt photo, prompt annotation, query, answer, truth, truth rec."""
    rows, kind = [], answers.kind
    first = next(iter(answers.scores[SAMPLED]))
    for r, (p, q) in enumerate(places):
        prompt, query = [answers.prompts[p]], [answers.queries[q]]
        value = answers.scores[SAMPLED][first][p][q].compute()
        drawn = bench.decode(answers.codes[p, q])
        rec = bench.decode(bench.codes(query, kind))[0]
        label = kind if np.isnan(value) else f"{kind}, {first} {value:.2f}"
        rows.append([
            bench.cell(f"{name}-{kind}-{r}-prompt", bench.pictures(prompt)[0]),
            bench.cell(f"{name}-{kind}-{r}-prompt-annotation", bench.pictures(prompt, kind)[0]),
            bench.cell(f"{name}-{kind}-{r}-query", bench.pictures(query)[0]),
            bench.cell(f"{name}-{kind}-{r}-answer", drawn, label, generated=True),
            bench.cell(f"{name}-{kind}-{r}-truth", bench.pictures(query, kind)[0]),
            bench.cell(f"{name}-{kind}-{r}-truth-rec", rec),
        ])  # fmt: skip
    return rows


SHOWN = ["prompt photo", "prompt annotation", "query", "answer", "truth", "truth through tokenizer"]


def worst_cases(bench: Bench, answers: Sequence[Answers], n: int) -> Figure:
    """The n worst of all sampled answers of each kind, by its first metric; a query is shown once."""
    rows = []
    for some in answers:
        first = next(iter(some.scores[SAMPLED]))
        sign = 1 if METRICS[first].higher_is_better else -1
        table = np.array([[sign * metric.compute() for metric in row] for row in some.scores[SAMPLED][first]])
        table = np.where(np.isnan(table), np.inf, table)  # nothing to be wrong about
        prompt = table.argmin(0)
        order = np.argsort(table.min(0), kind="stable")[:n]
        rows += show(bench, some, [(int(prompt[q]), int(q)) for q in order], "worst")
    drawn = sum(a.codes.shape[0] * a.codes.shape[1] for a in answers)
    caption = f"The {n} worst of each kind by its first metric, among the {drawn} sampled answers scored above."
    return Figure("worst-cases", "Worst cases", SHOWN, rows, caption)
