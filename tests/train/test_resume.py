"""Killed at any moment and run again, a training ends with the very bytes of one that was never stopped."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lvmlite.data.store import sha256
from lvmlite.train import checkpoint

STEPS = 12
EVERY = {"checkpoint_every": 2, "log_every": 1, "validate_every": 5, "steps": STEPS}
WHAT = ("language", "tokenizer", "gan")


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run leaves: checksums of every kept checkpoint, and its log without times."""
    names = sorted(str(p.relative_to(folder)) for p in (folder / "checkpoints").rglob("*") if p.is_file())
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    timed = ("seconds", "data_wait", "memory_gb", "device_hours", "tokens_per_s", "images_per_s")
    log = [{k: v for k, v in line.items() if k not in timed} for line in lines]
    return {"files": {name: sha256(folder / name) for name in names}, "log": log}


@pytest.fixture(scope="module")
def unbroken(server: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcome of uninterrupted runs."""
    found = {}
    for what in WHAT:
        folder = tmp_path_factory.mktemp("unbroken") / what
        assert server.run(what, folder, **EVERY) == 0
        found[what] = outcome(folder)
        assert [line["step"] for line in found[what]["log"]] == list(range(1, STEPS + 1))
        assert {name.split("/")[1] for name in found[what]["files"]} == {f"step-{STEPS - 2}", f"step-{STEPS}"}
    for what in ("tokenizer", "gan"):  # randomness that must be repeated
        assert sum(line.get("revived", 0) for line in found[what]["log"]) > 0
    return found


@pytest.mark.parametrize("what", WHAT)
def test_killed_at_random_moments(what: str, server: Any, unbroken: dict[str, Any], tmp_path: Path) -> None:
    moments, folder, codes = random.Random(what), tmp_path / "run", []
    for n in (1, 3, 5, 6, 7, 9):
        pause = moments.uniform(0, 0.05)
        when = partial(wait_for_lines, folder / "log.jsonl", n, pause)
        codes.append(server.stop(what, folder, signal.SIGKILL, when, **EVERY))
    assert codes.count(-signal.SIGKILL) >= 2
    assert server.run(what, folder, **EVERY) == 0
    assert outcome(folder) == unbroken[what]


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_while_a_checkpoint_is_written(ranks: int, server: Any, tmp_path: Path) -> None:
    """At random moments of slow writes, of which steps go on; some rank first, then all."""
    settings = EVERY | {"ranks": ranks, "steps": 16}
    assert server.run("language", tmp_path / "unbroken", **settings) == 0
    moments, folder, left = random.Random(ranks), tmp_path / "run", 0
    for n in (1, 2, 2, 1, 3):
        when = partial(wait_for_writes, folder / "checkpoints", n, moments.uniform(0, 0.12))
        codes = server.kill("language", folder, moments.randrange(ranks), when, slow=0.1, **settings)
        assert set(codes) <= {-signal.SIGKILL, 0, 1}  # 1: a rank found the other gone before it was killed itself
        left += bool(partials(folder / "checkpoints"))
    assert left >= 2
    assert server.run("language", folder, **settings) == 0, (folder / "output.txt").read_text()
    assert outcome(folder) == outcome(tmp_path / "unbroken")
    assert not list((folder / "checkpoints").glob(".*"))


def test_one_ranks_full_disk_stops_both(server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert server.run("language", folder, ranks=2, full=6, **EVERY) == 2
    said = sorted((folder / "output.txt").read_text().splitlines())
    start = f"{folder}/checkpoints/step-6: cannot write the checkpoint "
    assert said == [
        f"{start}(No space left on device); earlier ones are kept",
        f"{start}(another rank could not); earlier ones are kept",
    ]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-2", "step-4"]
    assert server.run("language", folder, ranks=2, **EVERY) == 0
    assert server.run("language", tmp_path / "unbroken", ranks=2, **EVERY) == 0
    assert outcome(folder) == outcome(tmp_path / "unbroken")


def test_killed_at_every_change_to_a_file(server: Any, tmp_path: Path) -> None:
    """Each run is killed one change later than the one before: inside the log, a checkpoint, its pruning."""
    often = {"steps": 30, "log_every": 1, "checkpoint_every": 1}
    assert server.run("language", tmp_path / "unbroken", **often) == 0
    folder = tmp_path / "run"
    codes = [server.run("language", folder, die=event, **often) for event in range(40)]
    killed = [line.removeprefix("killed at ") for line in (folder / "output.txt").read_text().splitlines()]
    assert codes.count(-signal.SIGKILL) == len(killed)
    assert set(killed) >= {"open", "os.mkdir", "os.rename", "os.remove"}  # which ones depends on the thread that writes
    assert server.run("language", folder, **often) == 0
    assert outcome(folder) == outcome(tmp_path / "unbroken")
    assert not [p.name for p in folder.rglob("*") if p.name.startswith(".")]


def test_killed_while_tensors_are_written(server: Any, unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert server.run("language", folder, **(EVERY | {"checkpoint_every": 4, "die": "tensors"})) == -signal.SIGKILL
    assert [p.name for p in (folder / "checkpoints").iterdir()] == [".step-4.partial"]
    assert server.run("language", folder, **EVERY) == 0
    assert outcome(folder) == unbroken["language"]


@pytest.mark.parametrize("what", WHAT[:2])
def test_the_same_command_again_after_a_kill(what: str, server: Any, unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = server.alone(what, folder, **EVERY)
    wait_for_lines(folder / "log.jsonl", 5)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert server.alone(what, folder, **EVERY).wait(timeout=60) == 0
    assert outcome(folder) == unbroken[what]


@pytest.mark.parametrize(("what", "number"), [("language", signal.SIGTERM), ("tokenizer", signal.SIGINT)])
def test_a_signal_saves_and_stops(what: str, number: signal.Signals, server: Any, tmp_path: Path) -> None:
    settings = {"steps": 60, "log_every": 1, "checkpoint_every": 1000}
    assert server.run(what, tmp_path / "unbroken", **settings) == 0
    folder = tmp_path / "run"
    assert server.stop(what, folder, number, lambda: wait_for_lines(folder / "log.jsonl", 4), **settings) == 3
    steps = checkpoint.steps(folder / "checkpoints")
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert steps == [len(lines)]
    assert steps[0] < 60
    said = (folder / "output.txt").read_text()
    assert said == f"stopped by {number.name} after step {steps[0]}; run the same command to go on\n"
    assert server.run(what, folder, **settings) == 0
    again, whole = outcome(folder), outcome(tmp_path / "unbroken")
    assert again["log"] == whole["log"]
    last = "checkpoints/step-60/rank-0.safetensors"
    assert again["files"][last] == whole["files"][last]


def test_a_log_line_cut_short_is_written_again(server: Any, unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert server.run("language", folder, **EVERY) == 0
    shutil.rmtree(folder / "checkpoints" / f"step-{STEPS}")
    log = folder / "log.jsonl"
    text = log.read_text()
    log.write_text(text[: text.rindex("lr")])
    assert server.run("language", folder, **EVERY) == 0
    assert outcome(folder) == unbroken["language"]


@pytest.mark.parametrize("damage", ["missing", "flipped", "truncated", "no checksums"])
def test_a_broken_checkpoint_is_passed_over(damage: str, server: Any, unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert server.run("language", folder, **EVERY) == 0
    newest = folder / "checkpoints" / f"step-{STEPS}"
    harm(newest, damage)
    assert server.run("language", folder, **EVERY) == 0
    said = (folder / "output.txt").read_text().splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"warning: {newest}: ")
    assert said[0].endswith("going back to the checkpoint before")
    assert outcome(folder) == unbroken["language"]


def test_no_whole_checkpoint_is_one_line(server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert server.run("language", folder, **EVERY) == 0
    for path in (folder / "checkpoints").iterdir():
        harm(path, "flipped")
    assert server.run("language", folder, **EVERY) == 2
    (said,) = (folder / "output.txt").read_text().splitlines()
    assert "no checkpoint is whole" in said
    assert "does not match its checksum" in said


def test_another_recipe_is_refused_in_one_line(server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert server.run("language", folder, **EVERY) == 0
    assert server.run("tokenizer", folder, **EVERY) == 2
    (said,) = (folder / "output.txt").read_text().splitlines()
    assert said == f"{folder}/checkpoints: written by another recipe; delete the folder or choose another out"


def wait_for_lines(log: Path, n: int, pause: float = 0) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") >= n):
        time.sleep(0.002)
    time.sleep(pause)


def wait_for_writes(folder: Path, n: int, pause: float) -> None:
    """Until the n-th checkpoint from now on is being written."""
    deadline, first = time.monotonic() + 60, partials(folder)
    seen: set[tuple[str, int]] = set()
    while time.monotonic() < deadline and len(seen) < n and checkpoint.steps(folder)[-1:] != [16]:
        seen |= partials(folder) - first
        time.sleep(0.001)
    time.sleep(pause)


def partials(folder: Path) -> set[tuple[str, int]]:
    """Checkpoints that are being written, or were when their run was killed."""
    found = set()
    for path in folder.glob(".step-*.partial"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ino))
    return found


def harm(folder: Path, damage: str) -> None:
    tensors = folder / "rank-0.safetensors"
    raw = bytearray(tensors.read_bytes())
    if damage == "missing":
        tensors.unlink()
    elif damage == "no checksums":
        (folder / "checksums.json").unlink()
    elif damage == "truncated":
        tensors.write_bytes(raw[: len(raw) // 2])
    else:
        raw[-5] ^= 1
        tensors.write_bytes(raw)
