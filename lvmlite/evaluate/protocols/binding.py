"""Rung (c) of the ladder: does the model take the meaning of colours from the prompt? EVIDENCE of the project.

In: a bench, and a kind of class ids with variants (palettes drawn per sentence). Out: shares of trials won.

Prompt and answer of a trial are drawn with one test palette, its own, whose every entry is new to the model. The wrong
answers show the same regions in the same colours, with the colours on other classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lvmlite.evaluate.bench import Bench, Frame, check_apart
from lvmlite.evaluate.protocols.likelihood import credit
from lvmlite.tasks.base import Task

# What the true answer is compared with. All classes: colours move one class on. Two smallest: the two classes of the
# least area exchange theirs, so that a layout copied from the prompt (sky above, ground below) does not help.
WRONG = ("all classes", "two smallest")


def binding_kinds(bench: Bench, source: str) -> list[str]:
    """Kinds of class ids whose test pictures are stored with test palettes too."""
    return [
        kind for kind in bench.kinds(source) if "miou" in bench.tasks[kind].metrics and bench.variants(kind, source) > 1
    ]


def binding_rung(
    bench: Bench, source: str, kind: str, n_queries: int, pairs: Sequence[int], tick: Callable[[], None]
) -> dict[tuple[str, str, int], np.ndarray]:
    """(c): the true palette against the same colours on other classes, chance 1/2.

    Two scores: "raw" is log p(answer | pairs, query); "gain" takes log p(answer | query) off it, because without a
    prompt the true entries of a test palette are less likely than wrong ones, which training saw more of. The gain
    of no pairs is 0, so at chance by construction.

    Returns:
        (score, wrong answer of WRONG, number of pairs) -> (Q, 1) credits. Queries that show one class are left out.
    """
    rng = bench.rng("binding", source, kind)
    train, task = bench.pool("train", source, [kind]), bench.tasks[kind]
    drawn = bench.pool("test", source, [kind]).draw(n_queries, rng)
    queries = [frame for frame in drawn if len(classes(bench.truth(frame, kind))) > 1]
    prompts = [train.draw(max(pairs), rng) for _ in queries]
    codes = _draw(bench, task, kind, queries, prompts)
    numbers = [0, *pairs]
    out = {(score, w, p): np.zeros((len(queries), 1)) for score in ("raw", "gain") for w in WRONG for p in numbers}
    for q, query in enumerate(queries):
        check_apart(prompts[q], [query])
        photo, candidates = bench.codes([query])[0], codes[q][: 1 + len(WRONG)]
        examples = np.stack((bench.codes(prompts[q]), codes[q][1 + len(WRONG) :]), axis=1)
        alone = np.zeros(0)
        for p in numbers:
            prompt = np.concatenate((examples[:p].ravel(), photo))
            logp = bench.engine.logprobs(prompt, candidates).astype(np.float64).sum(-1)
            alone = logp if p == 0 else alone
            for w, name in enumerate(WRONG, start=1):
                out["raw", name, p][q] = credit(logp[[0, w]], 0)
                out["gain", name, p][q] = credit((logp - alone)[[0, w]], 0)
        tick()
    return out


def _draw(bench: Bench, task: Task, kind: str, queries: list[Frame], prompts: list[list[Frame]]) -> list[np.ndarray]:
    """Codes of the true answer, the wrong ones and the prompt's annotations of each query, (1 + 2 + pairs, S).

    All are drawn here, query number q with test palette 1 + q: the first ones are those that the store holds.
    """
    pictures = []
    for palette, (query, examples) in enumerate(zip(queries, prompts, strict=True), start=1):
        ids = bench.truth(query, kind)
        shown = [ids, move_on(ids), exchange_smallest(ids), *(bench.truth(frame, kind) for frame in examples)]
        pictures += [task.render(ids, palette, "test") for ids in shown]
    if not pictures:
        return []
    return np.split(bench.encode(np.stack(pictures)), len(queries))


def classes(ids: np.ndarray) -> np.ndarray:
    """The class ids in a map, ascending, unlabelled left out."""
    found = np.unique(ids)
    return found[found != 0]


def move_on(ids: np.ndarray) -> np.ndarray:
    """Each class present becomes the next one present, the last the first."""
    present = classes(ids)
    return _replace(ids, present, np.roll(present, -1))


def exchange_smallest(ids: np.ndarray) -> np.ndarray:
    """The two classes of the least area change places."""
    present = classes(ids)
    area = np.array([(ids == c).sum() for c in present])
    pair = present[np.argsort(area, kind="stable")[:2]]
    return _replace(ids, pair, pair[::-1])


def _replace(ids: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    table = np.arange(int(ids.max()) + 1).astype(ids.dtype)
    table[old] = new
    return table[ids]
