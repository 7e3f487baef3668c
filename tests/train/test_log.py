"""log.jsonl through kills and bad numbers, and progress where there is no terminal."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest

from lvmlite.train.log import ROWS, Board, JsonLog, clock, progress, read_log, short


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


def test_the_last_line_is_known(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = JsonLog(path)
    assert log.last == {}
    for step in (1, 2, 3):
        log.write({"step": step})
    assert JsonLog(path, after=2).last == {"step": 3}  # dropped from the file, but its hours were spent


ENTRY = {
    "loss": 6.94123, "perplexity": 1034.02, "lr": 1.5e-4, "grad_norm": 1.8432, "tokens_per_s": 412123.0, "mfu": 0.4812,
    "data_wait": 0.0011, "memory_gb": 31.23, "device_hours": 1.0, "seconds": 10.0,
}  # fmt: skip


def test_a_training_is_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Board("stage single", 31278, "tokens") as board:
        board.update(100)  # where it goes on
        for step in (110, 120, 125, 130, 140):
            now[0] += 10.0
            board.show(step, {"step": step, **ENTRY} | ({"val_loss": 7.25} if step == 125 else {}))
    assert capsys.readouterr().err.splitlines() == [
        "stage single: 31,278 steps",
        "        step     loss      ppl        lr    grad  tokens/s     mfu    wait       mem     left",
        "         120   6.9412   1034.0   1.5e-04    1.84    412.1k   48.1%    0.1%   31.2 GB    8.7 h",
        "        step     loss      ppl      val        lr    grad  tokens/s     mfu    wait       mem     left",
        "         130   6.9412   1034.0   7.2500   1.5e-04    1.84    412.1k   48.1%    0.1%   31.2 GB   11.5 h",
    ]


def test_the_table_repeats_its_header_and_tells_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, total = [0.0], 2 * ROWS + 1
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    entry = {"loss": float("nan"), "codes_used": 31, "val_psnr": 21.3, "lr": 1e-3, "grad_norm": 2.0, "perplexity": 20.0}
    entry |= {"images_per_s": 97.23, "data_wait": 0.0, "memory_gb": 1.0}
    with Board("tokenizer", total, "images") as board:
        board.update(0)
        for step in range(1, total + 1):
            now[0] += 16.0 if step < total else 1.0
            board.show(step, {"step": step, **entry})
    lines = capsys.readouterr().err.splitlines()
    heads = [i for i, line in enumerate(lines) if "loss" in line]
    assert heads == [1, 2 + ROWS, 3 + 2 * ROWS]
    words = [" ".join(line.split()) for line in lines]
    assert words[1] == "step loss codes val dB lr grad images/s wait mem left"
    assert words[2] == "1 nan 31 21.30 1.0e-03 2 97.2 0.0% 1.0 GB 11 min"
    assert words[-1] == "41 nan 31 21.30 1.0e-03 2 97.2 0.0% 1.0 GB"  # not 15 s after the one before
    assert len({len(line) for line in lines[1:-1]}) == 1


def test_a_quick_training_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Board("stage", 50, "tokens") as board, Board("quiet", 50, "tokens", quiet=True) as quiet:
        quiet.told -= 100.0
        for step in range(51):
            board.show(step, ENTRY)
            quiet.show(step, ENTRY)
            quiet.say("never")
    assert capsys.readouterr().err == ""


def test_what_must_be_said_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Board("stage", 50, "tokens") as board:
        board.say("step 3 is skipped: the loss is not finite (batch 2)")
    assert capsys.readouterr().err == "step 3 is skipped: the loss is not finite (batch 2)\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with Board("stage single", 50, "tokens") as board:
        board.update(0)
        board.show(25, ENTRY)
        board.say("step 26 is skipped")
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    for words in ("stage single", "25/50", "loss 6.941", "412.1k tokens/s", "48.1% MFU", "step 26 is skipped"):
        assert words in said, words


@pytest.mark.parametrize(("n", "said"), [(0, "0.0"), (999, "999.0"), (1e3, "1.0k"), (2.5e6, "2.5M"), (4e9, "4.0G")])
def test_short_numbers(n: float, said: str) -> None:
    assert short(n) == said


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (99, "99 s"), (600, "10 min"), (36_000, "10.0 h")])
def test_times(seconds: float, said: str) -> None:
    assert clock(seconds) == said
