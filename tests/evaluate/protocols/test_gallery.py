"""The first screen: what is asked, what the model drew in red, and the truth beside it."""

import numpy as np
import pytest

from lvmlite.evaluate.protocols.gallery import Gallery, GalleryConfig
from lvmlite.images import decode


@pytest.fixture
def shown(make_bench, tmp_path):
    def run(rule="oracle", **settings):
        bench = make_bench(rule)
        config = GalleryConfig(**{"given": 2, "new": 3, **settings})
        result = Gallery(config).run(bench, lambda done, total: None)
        return bench, {figure.name: figure for figure in result.figures}

    return run


def pixels(run, cell):
    return [decode(run / "evaluation" / name) for name in cell.pictures]


def test_the_figures_and_what_is_red(shown):
    _, figures = shown(photo_sources=["clips"])
    expected = {"one-query-three-prompts", "one-prompt-three-queries", "generative", "bundled-photos", "next-frames"}
    assert set(figures) == expected
    for name, figure in figures.items():
        if name != "bundled-photos":
            red = [[c for c, cell in zip(figure.columns, row) if cell.generated] for row in figure.rows]
            assert all(found in (["answer"], ["the model's continuation"]) for found in red)
    assert [len(figure.rows) for figure in figures.values()] == [3, 3, 3, 3, 4]
    assert figures["bundled-photos"].columns == ["query", "edges", "grey", "seg"]
    assert [cell.generated for cell in figures["bundled-photos"].rows[0]] == [False, True, True, True]


def test_one_query_three_prompts(shown, tmp_path):
    bench, figures = shown(kinds=["seg", "depth", "normals"])
    figure = figures["one-query-three-prompts"]
    assert figure.columns == [
        "prompt photo", "prompt annotation", "query", "answer", "truth", "truth through tokenizer",
    ]  # fmt: skip
    at = [[pixels(tmp_path / "run", cell)[0] for cell in row] for row in figure.rows]
    assert all(np.array_equal(row[2], at[0][2]) for row in at), "the query is one"
    assert [row[3].label for row in figure.rows] == ["seg", "depth", "normals"]
    for row in at:
        np.testing.assert_array_equal(row[3], row[5])  # the oracle's answer is the truth's codes
        np.testing.assert_array_equal(row[5], bench.decode(bench.encode(row[4][None]))[0])
    queries = [pixels(tmp_path / "run", row[2])[0] for row in figures["one-prompt-three-queries"].rows]
    assert not np.array_equal(queries[0], queries[1])


def test_generative_turns_pairs_round(shown):
    bench, figures = shown()
    assert figures["generative"].columns[:2] == ["prompt annotation", "prompt photo"]
    annotation = {kind for string in bench.engine.asked if len(string) == 3 for *_, kind, _ in string[0]}
    assert {"edges", "grey", "seg", "image"} <= annotation


def test_next_frames_are_animations_beside_the_truth(shown, tmp_path):
    bench, figures = shown(None)
    figure = figures["next-frames"]
    for row in figure.rows:
        given, drawn, truth, rec = (np.stack(pixels(tmp_path / "run", cell)) for cell in row)
        assert [len(film) for film in (given, drawn, truth, rec)] == [2, 3, 3, 3]
        np.testing.assert_array_equal(rec, bench.decode(bench.encode(truth)))
        assert not np.array_equal(drawn, rec)


def test_more_pairs_are_all_shown(shown):
    _, figures = shown(pairs=9)
    columns = figures["one-query-three-prompts"].columns
    assert columns[:6] == ["prompt photo", "prompt annotation"] * 3, "as many as fit 8 pictures"
    assert {len(row) for row in figures["one-query-three-prompts"].rows} == {len(columns)}


def test_photos_by_default_are_of_sources_of_another_type(shown):
    assert "bundled-photos" not in shown()[1], "both sources are worlds"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ["pose"]}, "source 'world' has no kind pose; it has edges"),
        ({"source": "clips"}, "source 'clips' has no test frames with annotations; the gallery needs some"),
        ({"query_kind": "pose"}, "source 'world' has no kind pose"),
        ({"given": 6, "new": 3}, "given 6 \\+ new 3 exceed the context of 8 pictures"),
        ({"video_sources": ["world"]}, "source 'world' has no test samples of 5 frames"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(shown, change, message):
    with pytest.raises(ValueError, match=message):
        shown(**change)
