"""`lvmlite flops` as a newcomer reads it: presets beside the paper, recipes stage by stage, one-line mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lvmlite.cli import main


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[list[str]]:
    """The cells of every line of a command's output; of its error where `code` is 2."""
    with pytest.raises(SystemExit) as end:
        main(["flops", *words])
    shown = capsys.readouterr()
    assert end.value.code == code, shown.err
    lines = (shown.err if code else shown.out).splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines if line.strip()]


def test_every_preset_beside_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {cells[0]: cells for cells in said(capsys)}
    assert rows["300m"] == ["300m", "291.0 M", "0.151", "0.2", "0.588", "3.83", "4.1", "0.934", "1.59x"]
    assert rows["3b"] == ["3b", "3,274.9 M", "1.68", "1.7", "6.58", "32.2", "33.0", "7.86", "1.19x"]
    assert rows["100m"][3] == "-"  # not in the paper


def test_training_of_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("1b", "--context", "4096", "--tokens", "1e12", "--mfu", "0.5", "--gpus", "4", "--device", "1000")
    cells = said(capsys, *words)
    # 3 x 3.00 GFLOP a token x 1e12 tokens = 9.0 ZFLOP; at 500 TFLOP/s 5,000 hours, on four 52 days
    assert ["1b", "4096", "8.996 Z", "4,998", "52.1 days"] in cells
    half = said(capsys, *words, "--causal")
    assert float(half[-2][2].split()[0]) < 8.2


def test_hours_of_a_preset_are_those_of_the_papers_stage_one(capsys: pytest.CaptureFixture[str]) -> None:
    asked = said(capsys, "300m", "--context", "256", "--gpus", "8")
    assert asked == said(capsys, "300m", "--context", "256", "--tokens", str(125_112 * 8192 * 256))
    assert asked != said(capsys, "300m", "--context", "256")


def test_a_recipe_beside_its_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {cells[0]: cells[1:] for cells in said(capsys, "paper/300m")}
    assert rows["single"][:5] == ["256", "125,112 x 8,192", "262.4 G", "1.025 G", "800"]
    assert rows["sequences"][:5] == ["4,096", "46,917 x 512", "98.39 G", "384.3 M", "300"]
    assert rows["single as random"][:4] == ["4,096", "125,112 x 512", "262.4 G", "1.025 G"]
    hours = {name: int(rows[name][-2]) for name in ("single", "sequences", "in all", "in all as random")}
    assert hours["single"] + hours["sequences"] == hours["in all"]
    gain = hours["in all as random"] / hours["in all"]
    assert rows["FLOPs alone"] == ["1.59x", f"{gain:.2f}x", f"{3 * 1.59 / 3.59:.2f}x"]
    assert rows["the clock, if the paper's 2.7x were r"][2] == f"{3 * 2.7 / 4.7:.2f}x"


def test_a_measured_ratio_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {cells[0]: cells[1:] for cells in said(capsys, "paper/300m-ablation", "model.preset=1b", "--ratio", "2")}
    assert rows["the clock, with r = 2 as measured"] == ["2.00x", "1.50x", "1.50x"]
    assert "the clock, if the paper's 1.8x were r" in rows


def test_what_is_computed_twice_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {cells[0]: cells[1:] for cells in said(capsys, "paper/300m-16k")}
    assert rows["long"][0] == "16,384"
    assert "1.33x (53%)" in rows["long"]  # four forwards for three: MFU 40% is HFU 53%


def test_the_random_recipe_is_the_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    ours = {cells[0]: cells[1:] for cells in said(capsys, "paper/300m")}
    theirs = {cells[0]: cells[1:] for cells in said(capsys, "paper/300m-random")}
    assert theirs["random"] == ours["single as random"]
    assert theirs["in all"] == ours["in all as random"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nanno"], "the presets are"),
        (["300m", "nanno"], "no preset 'nanno'"),
        (["paper/300m", "300m"], "no preset 'paper/300m'"),
        (["300m", "seed=1"], "seed=1 changes a recipe"),
        (["paper/300m", "model.preset=2b"], "no preset '2b'"),
        (["tokenizers/nano"], "has no stages"),
        (["--mfu", "40"], "--mfu 40.0: must be a share"),
        (["--gpus", "0"], "--gpus 0: must be at least 1"),
        (["--context", "256", "0"], "at least 1 position"),
        (["--tokens", "0"], "--tokens 0.0: must be more than 0"),
        (["--device", "abacus"], "--device abacus: one of b200, "),
        (["--device", "-3"], "a peak in TFLOP/s"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    lines = said(capsys, *words, code=2)
    assert len(lines) == 1
    assert expected in "  ".join(lines[0])


def test_a_file_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paper = Path(__file__).parents[1] / "recipes" / "paper" / "3b.yaml"
    (tmp_path / "mine.yaml").write_text(f"extends: {paper}\nname: mine\nstages[0].train.steps: 10\n", encoding="utf-8")
    rows = {cells[0]: cells[1:] for cells in said(capsys, str(tmp_path / "mine.yaml"))}
    assert rows["single"][:2] == ["256", "10 x 8,192"]
    assert rows["single"][-3].startswith("1.15x")  # selective
