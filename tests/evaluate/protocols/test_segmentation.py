"""The published table: the model's row beside its floors and the ground truth through the tokenizer."""

import pytest

from lvmlite.evaluate.protocols.answers import AnswersConfig, free_answers
from lvmlite.evaluate.protocols.segmentation import Segmentation, SegmentationConfig

ANSWERS = AnswersConfig(n_queries=4, n_prompts=2, n_train=6)


def run(bench, **settings):
    return Segmentation(SegmentationConfig(answers=ANSWERS, **settings)).run(bench, lambda done, total: None)


def test_values_of_an_oracle_are_the_ceiling(make_bench):
    result = run(make_bench("oracle"))
    assert result.values["miou"] == result.values["miou/ground truth rec."] > 0.3
    metrics = {row[1].split()[0] for row in result.tables[0].rows}
    assert metrics == {"miou", "pixel_accuracy"}


def test_nothing_is_sampled_twice(make_bench):
    bench = make_bench("oracle")
    free_answers(bench, "world", "seg", ANSWERS)
    n = len(bench.engine.calls)
    run(bench)
    assert len(bench.engine.calls) == n


def test_a_kind_of_other_annotations_is_refused(make_bench):
    with pytest.raises(ValueError, match="source 'world' has no kind 'depth' judged by mIoU; it has seg"):
        run(make_bench(), kind="depth")
