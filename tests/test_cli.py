"""The command line as a newcomer meets it: help, one-line errors, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lvmlite.cli import add_own_data, main
from lvmlite.schema import load_recipe

RECIPE = str(Path(__file__).parent / "tiny.yaml")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must end with one line and code 2; gives the line."""
    with pytest.raises(SystemExit) as end:
        main(words)
    error = capsys.readouterr().err.strip()
    assert end.value.code == 2
    line = error.splitlines()[-1]
    assert "Traceback" not in error
    assert line.startswith("lvmlite: ")
    return line


def photos(folder: Path, n: int = 6) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        shown = capsys.readouterr().out
        assert end.value.code == 0
        for command in ("quickstart", "run", "data", "tokenizer", "train", "complete", "evaluate", "report", "info"):
            assert command in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "quickstat"], "no recipe 'quickstat'"),
        (["run", RECIPE, "tokenizer.train.setps=3"], "did you mean 'steps'?"),
        (["run", RECIPE, "stages[0].train.steps=-3"], "expected >= 1, got -3"),
        (["run", RECIPE, "seed=much"], "expected a whole number, got 'much'"),
        (["run", RECIPE, "stages[0].data.sentences=[]"], "sentences is empty"),
        (["run", RECIPE, "stages[0].data.sentences=[{sentence: single, share: 0}]"], "sum to nothing"),
        (["run", RECIPE, "model.preset=nanno"], "no preset 'nanno'"),
        (["run", RECIPE, "model.max_seq_len=32"], "4 pictures are 64 positions, model.max_seq_len is 32"),
        (["run", RECIPE, "device=cuda"], "finds no GPU"),
        (["run", RECIPE, "data.sources=[{source: photos, path: /nowhere}]", "data.only={}"], "/nowhere"),
        (["run", RECIPE, "data.only={worlds: []}"], "no source is named 'worlds'"),
        (["run", RECIPE, "data.geometry.size=30"], "30"),
        (["complete", "nowhere", "a.png"], "nowhere"),
        (["evaluate", "nowhere/model", "ladder"], "not a run folder"),
        (["evaluate", "nowhere/model", "laddder"], "the protocols are"),
        (["info", "nowhere"], "neither a model"),
        (["report", "nowhere"], "nowhere"),
        (["flops", "--preset", "nanno"], "the presets are"),
        (["data", "inspect", "nowhere"], "not a finished store"),
    ],
)
def test_mistakes_get_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *words)


def test_settings_may_follow_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", RECIPE, "--dry-run", f"out={tmp_path / 'x'}", "stages[0].train.steps=9"])
    assert end.value.code == 0
    assert "9 steps of 8 x 16" in capsys.readouterr().out
    assert not (tmp_path / "x").exists()


def test_folders_that_give_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = f"out={tmp_path / 'run'}"
    kinds = ["data.kinds={}", "tokenizer.train.pictures=[{sentence: single}]", "evaluate=[]"]
    kinds += [f"stages[{i}].data.sentences=[{{sentence: single}}]" for i in (0, 1)]
    only = ["data.only={}", *kinds, out, "--quiet"]
    source = "data.sources=[{{source: photos, path: {}}}]"
    assert "empty" in refused(capsys, "run", RECIPE, source.format(tmp_path / "empty"), *only)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.jpg").write_text("this is not a picture")
    line = refused(capsys, "run", RECIPE, source.format(tmp_path / "text"), *only)
    assert "no readable picture" in line
    assert "rejects.jsonl" in line


def test_own_folders_join_the_recipe(tmp_path: Path) -> None:
    config = load_recipe("quickstart")
    add_own_data(config, str(photos(tmp_path / "photos")), str(tmp_path))
    assert [source.name for source in config.data.sources][-2:] == ["photos", "videos"]
    assert config.data.sources[-2].path == str(tmp_path / "photos")


def test_sigterm_saves_and_ends_well(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "lvmlite", "train", RECIPE, f"out={tmp_path / 'run'}", "--quiet"]
    process = subprocess.Popen([*words, "stages[0].train.steps=2000"], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run/stages/single/log.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert "run the same command to go on" in error
    assert list((tmp_path / "run/stages/single/checkpoints").glob("step-*"))


@pytest.mark.parametrize("workers", [0, 2])
def test_sigterm_outside_training_ends_well_too(workers: int, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "lvmlite", "train", RECIPE, f"out={tmp_path / 'run'}", "--quiet"]
    settings = ["data.sources[0].train=100000", f"data.workers={workers}"]
    process = subprocess.Popen([*words, *settings], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "run/pixels/parts").is_dir():
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "lvmlite: stopped by SIGTERM; run the same command to go on\n")


def test_a_full_disk_is_told_in_a_line(tmp_path: Path) -> None:
    """The kernel refuses to let files grow beyond a limit, as a full disk does."""
    limited = f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " \
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); from lvmlite.cli import main; " \
        f"main(['data', 'build', {RECIPE!r}, 'out={tmp_path / 'run'}', '--quiet'])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, env=os.environ, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run/pixels/store.json").exists()
