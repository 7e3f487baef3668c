"""log.jsonl through kills and bad numbers, and progress where there is no terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lvmlite.train.log import JsonLog, progress, read_log


def test_a_line_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "log.jsonl"
    log = JsonLog(path)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1 / step})
    whole = path.read_text()
    for cut in range(len(whole)):
        path.write_text(whole[:cut])
        assert [entry["step"] for entry in read_log(path)] == [1, 2, 3][: whole[: cut + 1].count("\n")]
    path.write_text(whole[:-4])
    JsonLog(path, after=2).write({"step": 3, "loss": 0.5})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 0.5},
    ]  # fmt: skip


def test_a_resumed_log_repeats_no_step(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for after, todo in ((0, (1, 2, 3, 4)), (2, (3, 4, 5)), (0, (1,))):
        log = JsonLog(path, after)
        for step in todo:
            log.write({"step": step})
        assert [entry["step"] for entry in read_log(path)] == [*range(1, after + 1), *todo]
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_lines_that_are_no_entries_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n12\n[]\n\n{"step": 2}\n')
    assert read_log(path) == [{"step": 1}, {"step": 2}]


def test_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log.jsonl")
    log.write({"step": 1, "loss": float("nan"), "grad_norm": float("inf"), "lr": 0.1})
    text = log.path.read_text()
    assert "NaN" not in text
    assert json.loads(text) == {"step": 1, "loss": None, "grad_norm": None, "lr": 0.1}


def test_without_a_terminal_progress_is_silent_for_15_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("training", 1000, "steps") as bar:
        for done in range(1000):
            bar.update(done, "loss 1.0")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress("training", 100, "steps") as bar:
        for done in range(40, 101):  # resumed at 40
            bar.update(done, f"loss {done}")
            clock[0] += 1.0
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "  training: 56/100 steps, 1.0/s, 44 s left  loss 56"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress("training", 0, "steps", quiet=True) as bar:
        for done in range(5):
            clock[0] += 20
            bar.update(done)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_progress_of_unknown_length(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress("drawing", 0, "pictures") as bar:
        bar.update(0)
        clock[0] = 20.0
        bar.update(50, "world")
    assert capsys.readouterr().err == "  drawing: 50 pictures, 2.5/s  world\n"
