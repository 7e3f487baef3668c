"""Answers are sampled as the paper does, once for equal settings, and scored against native truth."""

import numpy as np
import pytest

from lvmlite.evaluate.protocols.answers import COLUMNS, AnswersConfig, answer_rows, free_answers, worst_cases
from lvmlite.metrics import METRICS

SMALL = AnswersConfig(n_queries=5, n_prompts=3, n_train=6)


def test_one_prompt_answers_all_queries_with_the_papers_sampling(make_bench):
    bench = make_bench("oracle")
    free_answers(bench, "world", "depth", SMALL)
    unprompted, *prompted, greedy = bench.engine.calls
    assert unprompted[:3] == (0, (5, 64), 64)
    assert [call[:3] for call in prompted] == [(128, (5, 64), 64)] * 3
    assert {(s.temperature, s.top_k) for *_, s in prompted} == {(1.0, 100)}
    assert len({s.seed for *_, s in prompted}) == 3
    assert greedy[3].temperature == 0


def test_equal_settings_are_sampled_once_and_zero_pairs_once_for_all_kinds(make_bench):
    bench = make_bench("oracle")
    first = free_answers(bench, "world", "depth", SMALL)
    n = len(bench.engine.calls)
    assert free_answers(bench, "world", "depth", SMALL) is first
    assert len(bench.engine.calls) == n
    free_answers(bench, "world", "edges", SMALL)
    assert len(bench.engine.calls) == n + n - 1
    assert free_answers(bench, "world", "depth", AnswersConfig(n_queries=4, n_prompts=3, n_train=6)) is not first


def test_truth_is_native(make_bench):
    """The score of the ceiling is that of the decoded codes against the source's own annotation."""
    bench = make_bench("oracle")
    answers = free_answers(bench, "world", "depth", SMALL)
    metric = METRICS["depth_absrel"]()
    for frame in answers.queries:
        native = bench.sources["world"].sample(frame.key).frames[0]["depth"]
        metric.update(bench.tasks["depth"].read(bench.decode(bench.codes([frame], "depth"))[0]), native)
    (row,) = [r for r in answer_rows(answers) if r[2].startswith("ceiling") and r[1].startswith("depth_absrel")]
    assert row[3] == pytest.approx(metric.compute())


def test_rows_state_the_spread_over_prompts(make_bench):
    answers = free_answers(make_bench(None), "world", "depth", SMALL)
    row = dict(zip(COLUMNS, answer_rows(answers)[0], strict=True))
    assert row["answer"] == "sampled, 1 pair"
    assert row["metric"] == "depth_absrel (lower is better)"
    assert row["best"] <= row["mean"] <= row["worst"], "lower is better"
    assert row["SD"] > 0
    assert row["95% low"] <= row["value"] <= row["95% high"]
    assert row["prompt seeds"] == 3


def test_the_worst_are_the_worst(make_bench):
    bench = make_bench(None)
    answers = free_answers(bench, "world", "seg", SMALL)
    figure = worst_cases(bench, [answers], 2)
    values = np.array([[m.compute() for m in row] for row in answers.scores["sampled, 1 pair"]["miou"]])
    shown = [float(row[3].label.split()[-1]) for row in figure.rows]
    assert shown == [round(v, 2) for v in sorted(values.min(0))[:2]]


def test_an_unknown_kind_is_named(make_bench):
    with pytest.raises(ValueError, match="source 'world' has no kind 'pose'; it has edges"):
        free_answers(make_bench("oracle"), "world", "pose", SMALL)
