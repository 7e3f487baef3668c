"""The ladder tells engines of known behaviour apart, and only a reader of the prompt reaches the top."""

import numpy as np
import pytest

from lvmlite.evaluate.protocols.answers import AnswersConfig
from lvmlite.evaluate.protocols.ladder import Ladder, LadderConfig

SMALL = LadderConfig(
    task_queries=6, query_tables=2, binding_queries=8, answers=AnswersConfig(n_queries=4, n_prompts=2, n_train=8)
)


def run(bench, config=SMALL):
    return Ladder(config).run(bench, lambda done, total: None)


def rows(result, name):
    (table,) = [table for table in result.tables if table.name == name]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.mark.parametrize(
    ("rule", "task", "query"),
    [("oracle", 1.0, 1.0), ("task only", 1.0, 0.25), ("query only", 0.2, 1.0), ("uniform", 0.2, 0.25)],
)
def test_engines_of_known_behaviour_stand_on_their_rungs(make_bench, rule, task, query):
    values = run(make_bench(rule)).values
    for p in (1, 3):
        assert values[f"task/{p}"] == pytest.approx(task)
        assert values[f"query/{p}"] == pytest.approx(query)
        assert values[f"task/{p}/chance"] == 0.2
        assert values[f"task/{p}/low"] <= task <= values[f"task/{p}/high"]


def test_zero_pairs_are_chance_in_a_and_measured_in_b(make_bench):
    result = run(make_bench("query only"))
    zero = {row["rung"]: row for row in rows(result, "ladder") if row["pairs"] == 0 and row["kind"] == "all"}
    assert zero["(a) task, 5 candidates"]["right"] == 0.2
    assert zero["(b) query"]["right"] == 1.0
    assert run(make_bench("oracle")).values["query/0"] == 0.25


def test_only_an_engine_that_reads_the_mapping_loses_by_shuffling(make_bench):
    reader, looker = run(make_bench("mapping")).values, run(make_bench("oracle")).values
    assert reader["nats/3/shuffled - right"] == pytest.approx(2.9)
    assert reader["nats/3/shuffled - right/low"] > 2
    assert looker["nats/3/shuffled - right"] == pytest.approx(0, abs=1e-6)
    assert "nats/1/shuffled" not in reader, "one pair cannot be shuffled"


def test_conditions_of_an_oracle(make_bench):
    result = run(make_bench("oracle"))
    table = {(row["pairs"], row["condition"]): row for row in rows(result, "conditions")}
    assert {c for _, c in table} == {"right", "shuffled", "wrong task", "swapped query", "none"}
    for (_, condition), row in table.items():
        expected = 0.1 if condition in ("right", "shuffled") else 3.0
        assert row["first row"] == row["rest"] == pytest.approx(expected)
        assert row["right / this"] == pytest.approx(np.exp(0.1 - expected), rel=1e-4)
        assert row["tables"] == 2 * 5
    by_kind = rows(result, "conditions-by-kind")
    assert set(by_kind[0]) == {"pairs", "condition", "edges", "grey", "seg", "depth", "normals"}


def test_binding_of_an_oracle_is_at_chance_without_pairs_only(make_bench):
    values = run(make_bench("oracle")).values
    assert values["binding/0"] == 0.5
    assert values["binding/1"] == values["binding/3"] == 1.0
    assert values["binding/two smallest/gain/3"] == 1.0
    assert values["binding/all classes/raw/0"] == 0.5
    blind = run(make_bench("uniform")).values
    assert {blind[f"binding/{p}"] for p in (0, 1, 3)} == {0.5}


def test_no_kind_with_palettes_is_said(make_bench):
    bench = make_bench("oracle")
    config = LadderConfig(
        kinds=["edges", "depth"], task_queries=2, query_tables=1, binding_queries=4, answers=SMALL.answers
    )
    bench.tasks["seg"].metrics = ()  # no kind of class ids is left
    said = [row["rung"] for row in rows(run(bench, config), "ladder")]
    assert "(c) binding: not measured, no kind has palettes drawn per sentence" in said
    assert "(a) task, 2 candidates" in said


def test_free_answers_of_an_oracle_are_the_ceiling_and_the_floors_are_below(make_bench):
    result = run(make_bench("oracle"))
    found = {(r["kind"], r["metric"].split()[0], r["answer"]): r for r in rows(result, "free-running")}
    for kind, metric in [("seg", "miou"), ("depth", "depth_absrel"), ("normals", "normal_angle"), ("grey", "psnr")]:
        sampled = found[kind, metric, "sampled, 1 pair"]
        assert sampled["value"] == pytest.approx(found[kind, metric, "ceiling: ground truth rec."]["value"])
        assert sampled["prompt seeds"] == 2
        assert sampled["SD"] == pytest.approx(0)
    for floor in ("copy the prompt's annotation", "zero pairs, sampled", "constant, from train"):
        assert found["seg", "miou", f"floor: {floor}"]["95% high"] < found["seg", "miou", "sampled, 1 pair"]["95% low"]
    assert ("seg", "pixel_accuracy", "greedy, 1 pair") in found


def test_worst_cases_are_pictures_with_the_answer_in_red(make_bench, tmp_path):
    result = run(make_bench("task only"))
    (figure,) = result.figures
    assert figure.name == "worst-cases"
    assert len(figure.rows) == 5
    for row in figure.rows:
        assert [cell.generated for cell in row] == [c == "answer" for c in figure.columns]
        assert all((tmp_path / "run" / "evaluation" / name).is_file() for cell in row for name in cell.pictures)


def test_prompts_come_from_train_and_queries_from_test(make_bench):
    bench = make_bench("uniform")
    run(bench)
    prompts = [shown for string in bench.engine.asked if len(string) > 2 for shown in string[:-2] if shown]
    queries = [string[-2] for string in bench.engine.asked if len(string) % 2 == 0]
    assert {key.split("/")[0] for shown in prompts for _, key, *_ in shown} == {"train"}
    assert {key.split("/")[0] for shown in queries for _, key, *_ in shown} == {"test"}


def test_the_same_seed_gives_the_same_result_and_another_does_not(make_bench):
    a, b, c = (run(make_bench(None, seed)) for seed in (0, 0, 1))
    assert a == b
    assert a.tables != c.tables


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ["edges", "dpeth"]}, "source 'world' has no kind dpeth; it has edges, grey, seg, depth, normals"),
        ({"source": "wrold"}, "source 'wrold' has no test frames with annotations; the ladder needs some"),
        ({"source": "clips"}, "source 'clips' has no test frames with annotations; the ladder needs some"),
        ({"pairs": (4,)}, "no number of pairs in \\[4\\] fits a context of 8 pictures"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(make_bench, change, message):
    with pytest.raises(ValueError, match=message):
        run(make_bench(), LadderConfig(**change))


def test_pairs_start_at_one():
    with pytest.raises(ValueError, match="pairs must be numbers of at least 1"):
        LadderConfig(pairs=(0, 1))
