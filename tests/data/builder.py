"""Run by test_build in a process of its own: builds a toy store, or is killed at every step of building one.

python -m data.builder build OUT WORKERS     print "built" when done
python -m data.builder crash OUT EVERY       kill a build at every EVERY-th file operation, each time continue; print
                                             a JSON line: the files of an undisturbed build, and kills, whose results
                                             differed from it
python -m data.builder random OUT SEED       kill one build after random times until it gets through; likewise
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lvmlite.data.build import build_pixels, build_tokens

from .toys import GEOMETRY, KINDS, SETTINGS, Item, Toy, ToyConfig, ToyTokenizer, tree

MARKS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")  # audit events of file operations


def source() -> Toy:
    """Splits, lengths, categories, kinds and faults of all sorts, in two parts."""
    parts = []
    for p in range(2):
        at = 10 * p
        items = (
            Item(at, "train", category="boat"),
            Item(at + 1, "val", frames=2),
            Item(at + 2, "train", label=False),
            Item(at + 3, "train", frames=3, category="ant"),
            Item(at + 4, "train", frames=3, fault="truncated file"),
            Item(at + 5, fault="reject"),
        )
        parts.append((f"{p:03d}", items))
    return Toy(ToyConfig("toy", tuple(parts)))


def build(out: Path, workers: int = 0) -> None:
    """Pixels, then tokens."""
    pixels = build_pixels([source()], KINDS, SETTINGS, GEOMETRY, out / "pixels", workers=workers)
    build_tokens(pixels, ToyTokenizer(), out / "tokens", batch=4)


def in_child(prepare: Callable[[], Any], out: Path, kill_after: float | None = None) -> bool:
    """Build in a forked process; True if it got through."""
    pid = os.fork()
    if pid == 0:
        prepare()
        build(out)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), f"the build failed: {status}"
    return status == 0


def kill_at(event: int, out: Path) -> Callable[[], None]:
    """Make this process kill itself before its file operation number `event` in the folder."""

    def prepare() -> None:
        seen = 0

        def hook(name: str, arguments: Any) -> None:
            nonlocal seen
            if name in MARKS and str(arguments[0]).startswith(str(out)):
                seen += 1
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return prepare


def crash(root: Path, every: int) -> dict[str, Any]:
    assert in_child(lambda: None, root / "whole")
    expected = tree(root / "whole")
    kills, wrong = 0, []
    for event in range(1, 100_000, every):
        out = root / "killed"
        shutil.rmtree(out, ignore_errors=True)
        if in_child(kill_at(event, out), out):
            break
        kills += 1
        in_child(kill_at(every, out), out)  # and once more, soon after starting again
        assert in_child(lambda: None, out)
        if tree(out) != expected:
            wrong.append(event)
    return {"files": len(expected), "kills": kills, "wrong": wrong}


def at_random(root: Path, seed: int) -> dict[str, Any]:
    begun = time.monotonic()
    assert in_child(lambda: None, root / "whole")
    whole = time.monotonic() - begun
    rng, kills = random.Random(seed), 0
    while not in_child(lambda: None, root / "killed", rng.uniform(0.02, 0.5) * whole):
        kills += 1
        assert kills < 1000
    same = tree(root / "killed") == tree(root / "whole")
    return {"files": len(tree(root / "whole")), "kills": kills, "wrong": [] if same else [0]}


def main(do: str, out: str, number: str) -> None:
    torch.set_num_threads(1)
    if do == "build":
        build(Path(out), int(number))
        print("built")
    else:
        print(json.dumps({"crash": crash, "random": at_random}[do](Path(out), int(number))))


if __name__ == "__main__":
    main(*sys.argv[1:])
