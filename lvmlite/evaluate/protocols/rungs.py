"""Rungs (a) task and (b) query of the ladder, and the conditions, from likelihoods alone. EVIDENCE of the project.

In: a bench and sizes. Out: shares of trials won, and log p of true answers under every condition.

Each trial has prompts of its own, so an interval over groups covers other prompts as well as other queries.
Legend: Q queries, T kinds, M tables, S codes of a picture; a prompt of p pairs is 2 p S codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lvmlite.evaluate.bench import Bench, Frame, check_apart
from lvmlite.evaluate.protocols.likelihood import credit

QUERIES = 4  # queries, and answers, of a table
CONDITIONS = ("right", "shuffled", "wrong task", "swapped query", "none")
NOTHING = np.zeros(0, np.int64)


def task_rung(
    bench: Bench, source: str, kinds: Sequence[str], n_queries: int, pairs: Sequence[int], tick: Callable[[], None]
) -> dict[int, np.ndarray]:
    """(a): is the answer whose likelihood gains most from the prompt the one of the prompted task?

    The T candidates are the annotations of the query's own frame; a candidate's score is
    log p(candidate | pairs, query) - log p(candidate | query), so a kind that is always likely gains nothing.

    Returns:
        number of pairs -> (Q, T): the credit of each query when prompted with each kind. 1 / T is chance.
    """
    rng = bench.rng("task", source)
    queries = bench.pool("test", source, kinds).draw(n_queries, rng)
    train = bench.pool("train", source, kinds)
    out = {p: np.zeros((len(queries), len(kinds))) for p in pairs}
    for q, query in enumerate(queries):
        prompts = train.draw(max(pairs), rng)
        check_apart(prompts, [query])
        photo = bench.codes([query])[0]
        candidates = np.concatenate([bench.codes([query], kind) for kind in kinds])
        alone = _sums(bench.engine.logprobs(photo, candidates))
        for t, kind in enumerate(kinds):
            examples = bench.pair_codes(prompts, kind)
            for p in pairs:
                prompt = np.concatenate((examples[:p].ravel(), photo))
                out[p][q, t] = credit(_sums(bench.engine.logprobs(prompt, candidates)) - alone, t)
        tick()
    return out


@dataclass
class Tables:
    """What rung (b) and the conditions are computed from.

    Attributes:
        kinds: of each table, (M,).
        credits: number of pairs, 0 among them -> (M, 4): per query, did its own answer win?
        conditions: (number of pairs, condition) -> (M, 4, S) log p of the tokens of the four true answers.
            "none" stands under 0 pairs. The log p of "swapped query" are means over the three other queries.
    """

    kinds: list[str]
    credits: dict[int, np.ndarray]
    conditions: dict[tuple[int, str], np.ndarray]


def query_tables(
    bench: Bench, source: str, kinds: Sequence[str], n_tables: int, pairs: Sequence[int], tick: Callable[[], None]
) -> Tables:
    """(b): `n_tables` tables of 4 queries and their 4 answers for each kind, with one prompt a table.

    Entry (i, j) is log p(answer j | pairs, query i) less the mean of column j: an answer that is likely for any query
    gains nothing. Query i is right if entry (i, i) is the greatest of row i; chance is 1/4.

    No scene is in two tables while there are enough.
    """
    rng = bench.rng("query", source)
    test, train = bench.pool("test", source, kinds), bench.pool("train", source, kinds)
    dealt = _deal(lambda: test.draw(len(test), rng), QUERIES)
    numbers = [0, *pairs]
    order: list[str] = []
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    credits: dict[int, list[list[float]]] = {p: [] for p in numbers}
    for _ in range(n_tables):
        for kind in kinds:
            queries, prompts = dealt(), train.draw(max(pairs), rng)
            check_apart(prompts, queries)
            others = [other for other in kinds if other != kind]
            wrong = others[int(rng.integers(len(others)))] if others else None
            cells, conditions = _table(bench, kind, wrong, queries, prompts, pairs)
            order.append(kind)
            for p in numbers:
                total = _sums(cells[p])
                total -= total.mean(0)
                credits[p].append([credit(total[i], i) for i in range(len(queries))])
            for key, logp in conditions.items():
                found.setdefault(key, []).append(logp)
            tick()
    return Tables(
        order,
        {p: np.array(rows) for p, rows in credits.items()},
        {key: np.stack(rows) for key, rows in found.items()},
    )


def _table(
    bench: Bench, kind: str, wrong: str | None, queries: list[Frame], prompts: list[Frame], pairs: Sequence[int]
) -> tuple[dict[int, np.ndarray], dict[tuple[int, str], np.ndarray]]:
    """One table: number of pairs -> cells (query, answer, S) log p; and the conditions (4, S) of its answers."""
    engine, n, size = bench.engine, len(queries), bench.size
    own = bench.pair_codes(queries, kind)
    photos, answers = own[:, 0], own[:, 1]
    all_pairs = np.stack((np.repeat(photos, n, 0), np.tile(answers, (n, 1))), axis=1).reshape(n * n, 2 * size)
    own = own.reshape(n, 2 * size)
    examples = bench.pair_codes(prompts, kind)
    cells, conditions = {}, {}
    for p in (0, *pairs):
        prompt = examples[:p].ravel() if p else NOTHING
        cells[p] = engine.logprobs(prompt, all_pairs)[:, size:].reshape(n, n, size).astype(np.float64)
        right = cells[p][np.arange(n), np.arange(n)]
        if p == 0:
            conditions[0, "none"] = right
            continue
        conditions[p, "right"] = right
        conditions[p, "swapped query"] = (cells[p].sum(0) - right) / (n - 1)
        if p > 1:
            shuffled = np.stack((examples[:p, 0], np.roll(examples[:p, 1], 1, axis=0)), axis=1)
            conditions[p, "shuffled"] = engine.logprobs(shuffled.ravel(), own)[:, size:].astype(np.float64)
        if wrong is not None:
            prompt = bench.pair_codes(prompts[:p], wrong).ravel()
            conditions[p, "wrong task"] = engine.logprobs(prompt, own)[:, size:].astype(np.float64)
    return cells, conditions


def _deal(shuffle: Callable[[], list[Frame]], n: int) -> Callable[[], list[Frame]]:
    """A dealer of n frames at a time from a shuffled pack, shuffled anew when fewer than n are left."""
    pack: list[Frame] = []

    def deal() -> list[Frame]:
        if len(pack) < n:
            pack[:] = shuffle()
            if len(pack) < n:
                raise ValueError(f"rung (b) needs at least {n} test groups, there are {len(pack)}; make more test data")
        hand = pack[:n]
        del pack[:n]
        return hand

    return deal


def _sums(logp: np.ndarray) -> np.ndarray:
    """log p of whole pictures, (..., S) -> (...) float64."""
    return logp.astype(np.float64).sum(-1)
