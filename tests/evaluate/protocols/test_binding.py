"""Wrong answers show the same regions in the same colours; binding is measured with palettes of test."""

import numpy as np

from lvmlite.evaluate.protocols import binding

IDS = np.array([[1, 1, 1, 1], [2, 2, 2, 4], [2, 2, 5, 5]], np.uint8)


def test_colours_move_on_among_the_classes_present():
    assert binding.move_on(IDS).tolist() == [[2, 2, 2, 2], [4, 4, 4, 5], [4, 4, 1, 1]]
    holes = np.array([[0, 3]], np.uint8)
    assert binding.move_on(holes).tolist() == [[0, 3]]


def test_the_two_smallest_change_places():
    assert binding.exchange_smallest(IDS).tolist() == [[1, 1, 1, 1], [2, 2, 2, 5], [2, 2, 4, 4]]
    assert binding.exchange_smallest(IDS).dtype == np.uint8


def test_kinds_with_palettes(make_bench):
    bench = make_bench()
    assert binding.binding_kinds(bench, "world") == ["seg"]
    assert binding.binding_kinds(bench, "clips") == []


def test_the_true_answer_is_the_stored_test_variant(make_bench):
    bench = make_bench()
    queries = bench.pool("test", "world", ["seg"]).draw(3, bench.rng("x"))
    prompts = [bench.pool("train", "world", ["seg"]).draw(2, bench.rng("y")) for _ in queries]
    codes = binding._draw(bench, bench.tasks["seg"], "seg", queries, prompts)
    for palette, (frame, mine) in enumerate(zip(queries, codes, strict=True), start=1):
        assert len(mine) == 3 + 2
        np.testing.assert_array_equal(mine[0], bench.codes([frame], "seg", palette)[0])
        assert not np.array_equal(mine[0], mine[1])
        assert not np.array_equal(mine[0], mine[2])
    train = bench.codes(prompts[0], "seg", 1)
    assert not np.array_equal(codes[0][3:], train), "the prompt is drawn with the test palette"


def test_every_trial_is_counted(make_bench):
    ticks = []
    found = binding.binding_rung(make_bench("oracle"), "world", "seg", 5, [1], lambda: ticks.append(1))
    assert {key[2] for key in found} == {0, 1}
    assert all(credits.shape == (len(ticks), 1) for credits in found.values())
    assert len(ticks) == 5
