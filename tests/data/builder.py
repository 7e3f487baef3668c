"""Run by test_build in a process of its own: builds a toy store, or is killed at every step of building one.

python -m data.builder build OUT WORKERS     print "built" when done
python -m data.builder crash OUT EVERY       kill a build at every EVERY-th file operation, each time continue; print
                                             a JSON line: the files of an undisturbed build, and kills, whose results
                                             differed from it
python -m data.builder direct OUT EVERY      likewise, from sources to tokens
python -m data.builder grow OUT EVERY        likewise, while a store changes its kinds; and go back to the old ones
python -m data.builder growdirect OUT EVERY  likewise, from sources to tokens
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

from lvmlite.data.build import build_pixels, build_tokens, encode_sources
from lvmlite.tasks.base import Task

from .toys import GEOMETRY, KINDS, SETTINGS, Item, Label, Noise, Toy, ToyConfig, ToyTokenizer, tree

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


OLD: dict[str, Task] = {"noise": Noise(2), "gone": Noise(), "label": Label(1)}  # what `grow` makes KINDS of
OLD_SETTINGS = {"noise": SETTINGS["noise"], "gone": {}, "label": {}}


def build(out: Path, workers: int = 0, old: bool = False) -> None:
    """Pixels, then tokens."""
    kinds, settings = (OLD, OLD_SETTINGS) if old else (KINDS, SETTINGS)
    pixels = build_pixels([source()], kinds, settings, GEOMETRY, out / "pixels", workers=workers)
    build_tokens(pixels, ToyTokenizer(), out / "tokens", batch=4)


def build_directly(out: Path, workers: int = 0, old: bool = False) -> None:
    """Tokens without pixels."""
    kinds, settings = (OLD, OLD_SETTINGS) if old else (KINDS, SETTINGS)
    encode_sources([source()], kinds, settings, GEOMETRY, ToyTokenizer(), out / "tokens", workers=workers, batch=4)


def in_child(
    prepare: Callable[[], Any], out: Path, kill_after: float | None = None, work: Callable[..., None] = build
) -> bool:
    """Build in a forked process; True if it got through."""
    pid = os.fork()
    if pid == 0:
        prepare()
        work(out)
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


def nothing() -> None:
    pass


def crash(root: Path, every: int, work: Callable[..., None] = build, grow: bool = False) -> dict[str, Any]:
    """`grow`: the build that is killed finds a store of other kinds, and half the time they are wanted back."""
    assert in_child(nothing, root / "whole", work=work)
    expected = tree(root / "whole")
    if grow:
        work(root / "old", old=True)
        old = tree(root / "old")
    kills, wrong = 0, []
    for event in range(1, 100_000, every):
        out = root / "killed"
        shutil.rmtree(out, ignore_errors=True)
        if grow:
            shutil.copytree(root / "old", out)
        if in_child(kill_at(event, out), out, work=work):
            break
        kills += 1
        if grow and kills % 2:
            work(out, old=True)
            if tree(out) != old:
                wrong.append(-event)
        in_child(kill_at(every, out), out, work=work)  # and once more, soon after starting again
        assert in_child(nothing, out, work=work)
        if tree(out) != expected:
            wrong.append(event)
    return {"files": len(expected), "kills": kills, "wrong": wrong}


def at_random(root: Path, seed: int) -> dict[str, Any]:
    begun = time.monotonic()
    assert in_child(nothing, root / "whole")
    whole = time.monotonic() - begun
    rng, kills = random.Random(seed), 0
    while not in_child(nothing, root / "killed", rng.uniform(0.02, 0.5) * whole):
        kills += 1
        assert kills < 1000
    same = tree(root / "killed") == tree(root / "whole")
    return {"files": len(tree(root / "whole")), "kills": kills, "wrong": [] if same else [0]}


def main(do: str, out: str, number: str) -> None:
    torch.set_num_threads(1)
    if do == "build":
        build(Path(out), int(number))
        print("built")
    elif do == "random":
        print(json.dumps(at_random(Path(out), int(number))))
    else:
        work = build_directly if do.endswith("direct") else build
        print(json.dumps(crash(Path(out), int(number), work, do.startswith("grow"))))


if __name__ == "__main__":
    main(*sys.argv[1:])
