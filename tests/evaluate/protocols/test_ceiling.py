"""The ceiling table: drawn alone and through the tokenizer, by palette, with intervals over groups."""

import json

import numpy as np
import pytest

from lvmlite.evaluate.ceiling import score, scores, through
from lvmlite.evaluate.protocols.ceiling import COLUMNS, Ceiling, CeilingConfig
from lvmlite.images import decode
from lvmlite.metrics import METRICS, bootstrap
from tests.evaluate.conftest import BlockColours, EveryPixel, Nothing


def run(bench, **settings):
    return Ceiling(CeilingConfig(**settings)).run(bench, lambda done, total: None)


def rows(result):
    return [dict(zip(COLUMNS, row)) for row in result.tables[0].rows]


def test_what_loses_nothing_leaves_what_drawing_leaves(tokenizer_bench):
    result = run(tokenizer_bench(EveryPixel()), n_pictures=6)
    found = rows(result)
    assert {row["kind"] for row in found} == {"edges", "grey", "seg", "depth", "normals"}
    for row in found:
        assert row["through the tokenizer"] == row["drawn and read"], row
        assert (row["pictures"], row["groups"]) == (6, 6)
    assert result.values["miou/world/seg/distinct"] == result.values["miou/world/seg/distinct/drawn"] == 1.0
    assert 0 < result.values["depth_absrel/world/depth/drawn"] < 0.02, "drawing in 223 greys loses a little"
    assert result.values["psnr/world/grey"] == 100.0


def test_what_loses_all_is_at_the_floor(tokenizer_bench):
    result = run(tokenizer_bench(Nothing()), n_pictures=4)
    assert result.values["miou/world/seg/distinct"] == 0.0
    assert result.values["pixel_accuracy/world/seg/distinct"] == 0.0
    assert result.values["edge_f1/world/edges"] == 0.0
    assert result.values["depth_delta1/world/depth"] == 0.0


def test_intervals_are_over_groups(tokenizer_bench):
    bench = tokenizer_bench(BlockColours())
    bench.tasks = {"seg": bench.tasks["seg"]}
    result = run(bench, n_pictures=16, n_shown=0)
    frames = [clip[0] for clip in bench.pool("test", "world", ["seg"]).clips(16, bench.rng("ceiling", "world", "seg"))]
    task, truths = bench.tasks["seg"], [bench.truth(frame, "seg") for frame in frames]
    back = through(bench.tokenizer, bench.pictures(frames, "seg"))
    groups = {}
    for frame, metric in zip(frames, scores(task, ["miou"], truths, back)["miou"]):
        groups.setdefault(frame.group, METRICS["miou"]()).merge(metric)
    row = rows(result)[0]
    assert row["through the tokenizer"] == score(task, "miou", truths, back).compute()
    assert (row["95% low"], row["95% high"]) == bootstrap(list(groups.values()))
    assert row["95% low"] < row["through the tokenizer"] < row["95% high"]
    assert result.figures == []


def test_palettes_redraw_the_same_truth(tokenizer_bench, tmp_path):
    colours = [[255, 0, 0], [254, 0, 0], [253, 0, 0], [252, 0, 0], [251, 0, 0]]
    (tmp_path / "reds.json").write_text(json.dumps(colours))
    (tmp_path / "two.json").write_text(json.dumps(colours[:2]))
    reds, two = str(tmp_path / "reds.json"), str(tmp_path / "two.json")
    result = run(tokenizer_bench(BlockColours()), kinds=["seg", "depth"], palettes=["distinct", reds, two, "voc"])
    found = rows(result)
    assert [row["palette"] for row in found if (row["metric"] or "").startswith("miou")] == ["distinct", reds, "voc"]
    assert [row["palette"] for row in found if row["through the tokenizer"] is None] == [
        f"palette {two} has 2 colours, n_classes is 5; lower it or use palette: distinct"
    ]
    assert result.values[f"miou/world/seg/{reds}/drawn"] == 1.0
    assert result.values[f"miou/world/seg/{reds}"] < result.values["miou/world/seg/distinct"] - 0.2
    assert [row["palette"] for row in found if row["kind"] == "depth"] == [None, None]


def test_the_codes_of_a_store_and_those_made_now_give_one_result(tokenizer_bench):
    one, other = (run(tokenizer_bench(BlockColours(), tokens=tokens), n_pictures=5) for tokens in (True, False))
    assert one.values == other.values


def test_the_worst_comes_first_and_shows_what_was_read(tokenizer_bench, tmp_path):
    bench = tokenizer_bench(BlockColours())
    result = run(bench, kinds=["seg"], n_pictures=8, n_shown=2)
    (figure,) = result.figures
    assert len(figure.rows) == 3
    assert figure.rows[0][1].label == "seg, worst of 8, distinct"
    numbers = [float(row[-1].label.removeprefix("miou ")) for row in figure.rows]
    assert numbers[0] == min(numbers) < result.values["miou/world/seg/distinct"]
    task = bench.tasks["seg"]
    back, read = (decode(tmp_path / "run/evaluation" / figure.rows[1][i].pictures[0]) for i in (2, 3))
    np.testing.assert_array_equal(task.read(read), task.read(back))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sources": ["clips"], "kinds": ["seg"]}, "source 'clips' has no kind 'seg'; it has none"),
        ({"kinds": ["pose"]}, "no test annotations of pose to measure a ceiling on"),
        ({"palettes": ["nowhere.json"]}, "nowhere.json"),
        ({"palettes": ["rainbow"]}, "palette 'rainbow' is none of"),
    ],
)
def test_what_cannot_be_measured_is_one_line(tokenizer_bench, settings, said):
    with pytest.raises(ValueError, match=r".") as error:
        run(tokenizer_bench(BlockColours()), **settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
