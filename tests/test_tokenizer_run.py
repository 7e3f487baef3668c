"""A run without a model, and the commands that measure a tokenizer: small ones, from beginning to end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from lvmlite.cli import main
from lvmlite.data.column import sha256
from lvmlite.data.store import Store
from lvmlite.evaluate.ceiling import score, through
from lvmlite.evaluate.protocols import PROTOCOLS, without_model
from lvmlite.pipeline import Pipeline
from lvmlite.schema import load_recipe
from lvmlite.tasks import TASK_CONFIGS, build_task
from lvmlite.tokenizers import load_tokenizer

RECIPE = str(Path(__file__).parent / "tiny.yaml")
MEASURED = "evaluate=[{protocol: reconstruction, n_pictures: 4, n_shown: 2}, {protocol: ceiling, n_pictures: 4}]"
ALONE = ["stages=[]", MEASURED]


@pytest.fixture(autouse=True)
def no_weights(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVMLITE_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tokenizer alone."""
    out = tmp_path_factory.mktemp("tokenizer") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LVMLITE_WEIGHTS", str(out.parent / "weights"))
        Pipeline(load_recipe(RECIPE, [f"out={out}", *ALONE]), quiet=True).run()
    return out


def done(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert end.value.code == 0, said.err
    return said.out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    error = capsys.readouterr().err.strip()
    assert end.value.code == 2
    assert error.startswith("lvmlite: ")
    assert "\n" not in error
    return error


def results(folder: Path) -> dict[str, dict[str, float]]:
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {result["protocol"]: result["values"] for result in found["results"]}


def test_a_recipe_without_stages_measures_its_tokenizer(run: Path) -> None:
    steps = [step["step"] for step in json.loads((run / "steps.json").read_text())]
    assert steps == ["pixels", "tokenizer", "tokens", "evaluate", "report"]
    assert not (run / "model").exists()
    values = results(run)
    assert 5 < values["reconstruction"]["psnr"] < 40
    assert 0 <= values["ceiling"]["miou/world/seg/distinct"] < values["ceiling"]["miou/world/seg/distinct/drawn"] == 1
    again = Pipeline(load_recipe(RECIPE, [f"out={run}", *ALONE]), quiet=True).run()
    assert all(step["skipped"] for step in again)


def test_its_report_says_nothing_of_a_model(run: Path) -> None:
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    for there in ("Loss, tokenizer", "Reconstructions", "Annotations through the tokenizer", "Machine and time"):
        assert there in page
    for other in ("ladder", "three prompts", "not in this run", "is not there", "nats per token", "lvmlite.json"):
        assert other not in page
    assert "CC0" in page or "generated" in page, "licences come from the store"


def test_a_tokenizer_that_is_there_is_measured_again_when_its_decoder_changed(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(run / "tokenizer" / "final", folder)
    words = [f"out={tmp_path / 'run'}", f"tokenizer.path={folder}", *ALONE]
    first = Pipeline(load_recipe(RECIPE, words), quiet=True).run()
    assert [step["step"] for step in first] == ["pixels", "tokens", "evaluate", "report"]
    assert results(tmp_path / "run") == results(run)
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.conv_out.bias"] += 0.2
    save_file(tensors, folder / "model.safetensors")
    again = Pipeline(load_recipe(RECIPE, words), quiet=True).run()
    assert [step["step"] for step in again if not step["skipped"]] == ["evaluate", "report"]
    assert results(tmp_path / "run")["reconstruction"]["psnr"] != results(run)["reconstruction"]["psnr"]


def test_protocols_that_need_a_model_are_refused_without_one() -> None:
    assert set(without_model()) == {"reconstruction", "ceiling", "cost"}
    for name in PROTOCOLS:
        words = ["stages=[]", f"evaluate=[{{protocol: {name}}}]"]
        if name in without_model():
            assert load_recipe(RECIPE, words).evaluate[0].protocol == name
        else:
            with pytest.raises(ValueError, match=f"'{name}' needs a model, but stages is empty") as error:
                load_recipe(RECIPE, words)
            assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_size_is_refused_before_anything_is_drawn(run: Path, tmp_path: Path) -> None:
    words = [f"out={tmp_path / 'run'}", f"tokenizer.path={run / 'tokenizer/final'}", "data.geometry.size=64", *ALONE]
    with pytest.raises(ValueError, match=r"reads pictures of 32 px.*set data\.geometry\.size=32"):
        Pipeline(load_recipe(RECIPE, words), quiet=True)
    assert not (tmp_path / "run").exists()


def test_evaluate_prints_and_writes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the run's own pixels, which stay as they are; without its tokens the same pictures give the same numbers."""
    before = {file: sha256(file) for file in (run / "recipe.yaml", run / "steps.json", run / "results.json")}
    said = done(capsys, "tokenizer", "evaluate", run, run, "--out", tmp_path / "out", "--device", "cpu", "--quiet")
    assert "Reconstruction of held-out pictures" in said
    assert "Use of the codebook" in said
    assert said.strip().endswith("results.json")
    here, there = results(tmp_path / "out")["reconstruction"], results(run)["reconstruction"]
    assert {k: v for k, v in here.items() if "code" not in k} == {k: v for k, v in there.items() if "code" not in k}
    assert (tmp_path / "out" / "evaluation" / "reconstruction-world-0-rec.png").is_file()
    assert before == {file: sha256(file) for file in before}


def test_ceiling_draws_what_is_not_there_and_takes_palettes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [RECIPE, f"out={tmp_path / 'run'}", "--quiet", "--palette", "painter150", "--palette", "voc"]
    said = done(capsys, "tokenizer", "ceiling", run / "tokenizer/final", *words, "--split", "val")
    assert (tmp_path / "run/pixels/store.json").is_file()
    assert not (tmp_path / "run/tokenizer").exists()
    assert "painter150" in said
    values = results(run / "tokenizer/final/ceiling")["ceiling"]
    (shard,) = Store.open(tmp_path / "run/pixels").select("val", ["world"])
    pixels = np.array(shard.column("seg"))
    task = build_task(TASK_CONFIGS["segmentation"](palette="distinct", n_classes=5))
    back = through(load_tokenizer(run / "tokenizer/final"), pixels)
    by_hand = score(task, "miou", [task.read(picture) for picture in pixels], back).compute()
    assert values["miou/world/seg/distinct"] == pytest.approx(by_hand)
    assert {"miou/world/seg/painter150", "miou/world/seg/voc"} <= values.keys()
    shutil.rmtree(run / "tokenizer/final/ceiling")


@pytest.mark.parametrize("command", ["evaluate", "ceiling"])
def test_mistakes_get_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    out, other, path = f"out={tmp_path / 'new'}", [RECIPE, f"out={run}"], f"tokenizer.path={run / 'tokenizer/final'}"
    (tmp_path / "broken.yaml").write_text("name: [")
    for words, said in (
        (["nowhere", RECIPE], "nowhere: neither a tokenizer folder"),
        ([run, "quickstat"], "no recipe 'quickstat'"),
        ([run, RECIPE, out, "data.geometry.size=64"], "reads pictures of 32 px, the recipe draws 64 px"),
        ([run, RECIPE, out, "--split", "tset"], "--split is train or val or test, not tset"),
        ([run, *other, "data.kinds.seg.palette=voc"], "drawn by another recipe; add out=DIR"),
        ([run, RECIPE, out, "data.pixels=false", "evaluate=[]", path], "has no pixels to measure a tokenizer on"),
        ([run, RECIPE, out, "data.sources=[]", "data.only={}"], "sources is empty"),
        ([run, tmp_path / "broken.yaml"], "broken.yaml: line 1"),
        ([run, RECIPE, out, "--device", "gpu"], "device 'gpu' is unknown"),
    ):
        assert said in refused(capsys, "tokenizer", command, *words)
    assert not (tmp_path / "new").exists()


def test_a_palette_that_is_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "palette 'rainbow' is none of" in refused(capsys, "tokenizer", "ceiling", run, run, "--palette", "rainbow")


def test_a_palette_is_found_written_and_drawn_with(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, on a run for both arguments; what it writes is a palette that the ceiling and a recipe take."""
    out = tmp_path / "palette.json"
    words = ["tokenizer", "palette", run, run, "--kind", "seg", "--steps", 3, "--maps", 8, "--quiet", "--out", out]
    said = done(capsys, *words)
    assert "of a quarter of 8 train maps" in said
    assert f"found {'':<6}" in said
    assert len(json.loads(out.read_text(encoding="utf-8"))["colours"]) == 5
    assert "is there already" in refused(capsys, *words)
    done(capsys, "tokenizer", "ceiling", run, run, "--quiet", "--palette", out, "--out", tmp_path / "ceiling")
    assert f"miou/world/seg/{out}" in results(tmp_path / "ceiling")["ceiling"]
    new = [*words[:-1], tmp_path / "new.json"]
    assert "--kind depth: not a segmentation kind" in refused(capsys, *new, "--kind", "depth")
    assert "a palette is a .json file" in refused(capsys, *words[:-1], tmp_path / "new.txt")
    assert "nowhere: neither a tokenizer folder" in refused(capsys, *new[:2], "nowhere", *new[3:])
    small = [RECIPE, f"out={tmp_path / 'other'}", "data.geometry.size=64"]
    assert "add data.geometry.size=32" in refused(capsys, *new[:3], *small, *new[4:])


def test_info_tells_what_a_tokenizer_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = done(capsys, "info", run / "tokenizer/final")
    tokenizer = load_tokenizer(run / "tokenizer/final")
    assert f"code fingerprint: {tokenizer.code_fingerprint}" in said
    assert "pictures: 32 x 32, 4 x 4 codes, f = 8" in said
    assert "codes: 64 of dimension 8, nearest" in said


def test_help_needs_no_torch() -> None:
    words = "import sys; from lvmlite.cli import parser; parser().format_help(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True, timeout=60)
