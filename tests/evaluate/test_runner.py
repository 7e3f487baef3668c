"""`results.json` is whole, reads back as the results, and is the same for the same seed."""

import json
import math
from dataclasses import asdict

import pytest

from lvmlite import recipe
from lvmlite.evaluate.protocols import PROTOCOLS, build_protocol, protocol_configs
from lvmlite.evaluate.results import Result
from lvmlite.evaluate.runner import evaluate

ANSWERS = {"n_queries": 3, "n_prompts": 2, "n_train": 6}
SMALL = {
    "ladder": {"task_queries": 2, "query_tables": 1, "binding_queries": 2, "answers": ANSWERS},
    "next_frame": {"n_clips": 2, "n_sampled": 2},
    "reconstruction": {"n_pictures": 4, "n_shown": 2},
    "ceiling": {"n_pictures": 4, "palettes": ["painter150", "voc"]},
    "segmentation": {"answers": ANSWERS},
    "gallery": {"n_clips": 2, "given": 2, "new": 2, "photo_sources": ["clips"]},
    "cost": {"preset": "pico", "short": 16, "long": 32, "steps": 1, "warmup": 0},
}
REPEATABLE = [name for name in PROTOCOLS if name != "cost"]  # which measures time


def configs(*names):
    return [recipe.build(PROTOCOLS[name][0], SMALL[name]) for name in names or PROTOCOLS]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_config_defaults_work_and_name_the_protocol(name):
    config = recipe.build(protocol_configs()[name], {})
    assert config.protocol == name
    assert recipe.build(type(config), recipe.to_dict(config)) == config
    build_protocol(config)


def test_results_are_written_and_read_back(make_bench, tmp_path):
    bench, seen = make_bench(None), []
    results = evaluate(
        bench,
        configs(),
        tmp_path / "run",
        about={"recipe": "r"},
        progress=lambda name, done, total: seen.append((name, done, total)),
    )
    assert [result.protocol for result in results] == list(PROTOCOLS)
    text = (tmp_path / "run" / "results.json").read_text()
    written = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert written["run"] == {"recipe": "r"}
    assert {"cpu", "torch", "device", "evaluated in"} <= set(written["machine"])
    for entry, result in zip(written["results"], results, strict=True):
        assert recipe.build(Result, entry) == recipe.build(Result, finite(asdict(result)))
        assert entry["seconds"] > 0
        assert "protocol" not in entry["settings"]
    assert written["results"][0]["settings"]["answers"]["n_queries"] == 3
    for name in PROTOCOLS:
        ticks = [(done, total) for protocol, done, total in seen if protocol == name]
        assert ticks == sorted(ticks), name
        assert ticks[-1][0] == ticks[-1][1]


def test_every_picture_of_a_figure_is_there_and_no_other(make_bench, tmp_path):
    results = evaluate(make_bench("oracle"), configs(), tmp_path / "run")
    named = {
        picture
        for result in results
        for figure in result.figures
        for row in figure.rows
        for cell in row
        for picture in cell.pictures
    }
    assert named == {file.name for file in (tmp_path / "run" / "evaluation").iterdir()}
    for result in results:
        for figure in result.figures:
            assert {len(row) for row in figure.rows} == {len(figure.columns)}, figure.name
        for table in result.tables:
            assert {len(row) for row in table.rows} == {len(table.columns)}, table.name


def test_the_same_seed_gives_the_same_file_whatever_was_there(make_bench, tmp_path):
    def run(folder, *names):
        results = evaluate(make_bench(None, run=folder), configs(*names), folder)
        return {result.protocol: {**finite(asdict(result)), "seconds": 0} for result in results}

    everything = run(tmp_path / "a", *REPEATABLE)
    (tmp_path / "a" / "evaluation" / "old.png").write_bytes(b"left by an earlier run")
    again = run(tmp_path / "a", *REPEATABLE)
    assert everything == again
    assert not (tmp_path / "a" / "evaluation" / "old.png").exists()
    assert run(tmp_path / "b", "segmentation", "ladder") == {n: everything[n] for n in ("segmentation", "ladder")}


def test_nothing_is_written_where_a_protocol_cannot_run(make_bench, tmp_path):
    bad = recipe.build(PROTOCOLS["segmentation"][0], {"source": "clips"})
    with pytest.raises(ValueError, match="source 'clips' has no kind judged by mIoU; it has none"):
        evaluate(make_bench(), [bad], tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()


def finite(value):
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
