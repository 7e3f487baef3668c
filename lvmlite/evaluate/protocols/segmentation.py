"""Segmentation by prompting, as published (LVM-Lite, Table 3): mIoU and pixel accuracy of sampled answers.

In: a kind of class ids on held-out frames. Out: the model's row, its spread over prompt seeds, floors, and the
"ground truth rec." row. Answers are those of the ladder's rung (d) where the settings are equal: sampled once.

Ids are read by the nearest colour of the fixed palette. A prediction of "unlabelled" on a labelled pixel is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from lvmlite.evaluate.bench import Bench
from lvmlite.evaluate.ceiling import pooled
from lvmlite.evaluate.protocols.answers import (
    CEILING,
    SAMPLED,
    SHOWN,
    AnswersConfig,
    answer_table,
    free_answers,
    show,
)
from lvmlite.evaluate.protocols.base import Progress, Protocol
from lvmlite.evaluate.results import Figure, Result
from lvmlite.recipe import Range


@dataclass(frozen=True)
class SegmentationConfig:
    """
    Attributes:
        kind: default the source's first kind that is judged by mIoU.
        answers: equal to the ladder's, they are the same answers.
        n_shown: queries in the figure, each with the next prompt.
    """

    protocol: Literal["segmentation"] = "segmentation"
    source: str = "world"
    kind: str | None = None
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    n_shown: Annotated[int, Range(0)] = 4


class Segmentation(Protocol):
    """Raises ValueError if the source has no such kind."""

    def __init__(self, config: SegmentationConfig):
        self.config = config

    def run(self, bench: Bench, progress: Progress) -> Result:
        c = self.config
        known = [kind for kind in bench.kinds(c.source) if "miou" in bench.tasks[kind].metrics]
        kind = c.kind if c.kind is not None else next(iter(known), None)
        if kind not in known:
            wanted = f"kind '{c.kind}'" if c.kind else "kind"
            raise ValueError(f"source '{c.source}' has no {wanted} judged by mIoU; it has {', '.join(known) or 'none'}")
        answers = free_answers(bench, c.source, kind, c.answers)
        result = Result(c.protocol)
        title = f"Segmentation by prompting: {kind} of {c.source}"
        result.tables.append(answer_table("segmentation", title, [answers]))
        for row, name in ((SAMPLED, "miou"), (CEILING, "miou/ground truth rec.")):
            metrics = [metric for some in answers.scores[row]["miou"] for metric in some]
            result.values[name] = pooled(metrics).compute()
        if c.n_shown:
            places = [(i % len(answers.prompts), i) for i in range(min(c.n_shown, len(answers.queries)))]
            rows = show(bench, answers, places, "segmentation")
            caption = "The first held-out queries as drawn by seed, each answered with another prompt."
            result.figures.append(Figure("segmentation", "Segmentation by prompting", SHOWN, rows, caption))
        progress(1, 1)
        return result
