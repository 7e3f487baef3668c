"""What a run says while it works: log.jsonl for programs, a progress bar or plain lines for people.

Training on no terminal says it in a table:

    stage single: 31,278 steps
         step     loss     ppl        lr    grad  tokens/s     mfu    wait      mem     left
          120   6.9412  1034.0   9.0e-06    1.84    412.1k   48.1%    0.1%  31.2 GB    9.1 h
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

SILENT = 15.0  # seconds between two lines where there is no terminal
ROWS = 20  # of a table below one header


class JsonLog:
    """Appends to log.jsonl. `after` drops lines beyond a step: a resumed run repeats none.

    A number that is not finite is written as null, since JSON has no other word for it.

    Attributes:
        last: the last line there was, kept or not, empty if none was: what a run has cost until now.
    """

    def __init__(self, path: Path, after: int = 0):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = read_log(path) if path.exists() else []
        kept = [line for line in lines if line.get("step", 0) <= after]
        self.last: dict[str, Any] = lines[-1] if lines else {}
        partial = path.with_name(f".{path.name}.partial")  # a kill leaves the old log or the new one
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(partial, path)

    def write(self, entry: dict[str, Any]) -> None:
        known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(known, allow_nan=False) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a line cut short by a kill is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


class Progress:
    """Progress of one piece of work, with rate and time left: a bar on a terminal, a line every 15 s elsewhere.

    Use `with progress(title, total, unit) as p: p.update(done, text)`.
    """

    def __init__(self, title: str, total: int, unit: str, quiet: bool = False):
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet
        self.begun = self.told = time.monotonic()
        self.first: int | None = None
        self.bar: Any = None
        self.task: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = [
                TextColumn("{task.description:<20}"),
                BarColumn(12),
                TextColumn("{task.completed}{task.fields[of]}"),
            ]
            self.bar = Bar(
                *columns,
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("left  {task.fields[text]}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(title, total=total or None, of="", rate="", text="")
            self.bar.start()

    def update(self, done: int, text: str = "", total: int = 0) -> None:
        """`total`: as far as it is known by now."""
        self.total = total or self.total
        if self.first is None:
            self.first = done
        now = time.monotonic()
        rate = (done - self.first) / (now - self.begun) if now > self.begun else 0.0
        if self.bar is not None:
            of = f"/{self.total}" if self.total else ""
            said = f"{rate:.0f}/s" if rate >= 100 else f"{rate:.3g}/s"
            self.bar.update(self.task, completed=done, total=self.total or None, of=of, rate=said, text=text)
        elif self.due():
            self.told = now
            left = f", {(self.total - done) / rate:.0f} s left" if rate > 0 and self.total else ""
            of = f"/{self.total}" if self.total else ""
            print(
                f"  {self.title}: {done}{of} {self.unit}, {rate:.1f}/s{left}  {text}",
                file=sys.stderr,
                flush=True,
            )

    def due(self) -> bool:
        """Whether a line may be printed now."""
        return self.bar is None and not self.quiet and time.monotonic() - self.told > SILENT

    def say(self, text: str) -> None:
        """Print a line at once, above the bar if there is one."""
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Board(Progress):
    """Progress of a training: a bar with loss and speed on a terminal, else rows of a table."""

    def __init__(self, title: str, total: int, unit: str, quiet: bool = False):
        """unit: of the rates, "tokens" or "images"."""
        super().__init__(title, total, "steps", quiet)
        self.rate = f"{unit}_per_s"
        kinds = {"tokens": PERPLEXITY, "images": CODES}
        self.columns = [LOSS, *kinds.get(unit, []), *VALIDATION, *STEP, (self.rate, f"{unit}/s", short), *MACHINE]
        self.known: dict[str, float] = {}  # the last value of each column
        self.heads: list[str] = []
        self.rows = 0

    def show(self, step: int, entry: Mapping[str, Any]) -> None:
        """entry: numbers of this step by name; a row repeats what it lacks, such as the last `val_loss`."""
        self.known |= {key: entry[key] for key, _, _ in self.columns if key in entry}
        if self.bar is not None or self.first is None:
            speed = f"  {short(self.known[self.rate])} {self.rate.removesuffix('_per_s')}/s" * (self.rate in self.known)
            mfu = f"  {percent(self.known['mfu'])} MFU" if "mfu" in self.known else ""
            self.update(step, f"loss {entry['loss']:.3f}{speed}{mfu}")
        elif self.due() or (step == self.total and self.rows):
            self.told = time.monotonic()
            self.row(step)

    def row(self, step: int) -> None:
        passed = time.monotonic() - self.begun
        left = (self.total - step) * passed / max(1, step - (self.first or 0))
        cells = {"step": f"{step:,}"} | {
            head: write(self.known[k]) for k, head, write in self.columns if k in self.known
        }
        cells["left"] = clock(left) if step < self.total else ""
        width = {head: WIDE.get(head, max(NARROW, len(head) + 2)) for head in cells}
        if self.heads != list(cells) or self.rows % ROWS == 0:
            if not self.rows:
                self.say(f"{self.title}: {self.total:,} steps")
            self.say("".join(head.rjust(width[head]) for head in cells))
            self.heads = list(cells)
        self.say("".join(cell.rjust(width[head]) for head, cell in cells.items()))
        self.rows += 1


def short(n: float) -> str:
    """12345 -> "12.3k"."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= scale:
            return f"{n / scale:.1f}{letter}"
    return f"{n:.1f}"


def percent(share: float) -> str:
    return f"{share:.1%}"


def clock(seconds: float) -> str:
    """95 -> "95 s", 1200 -> "20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


Column = tuple[str, str, Callable[[float], str]]  # key of the log, head, how a number is written
LOSS: Column = ("loss", "loss", "{:.4f}".format)
PERPLEXITY: list[Column] = [("perplexity", "ppl", "{:.1f}".format)]
CODES: list[Column] = [("codes_used", "codes", "{:.0f}".format)]
VALIDATION: list[Column] = [("val_loss", "val", "{:.4f}".format), ("val_psnr", "val dB", "{:.2f}".format)]
STEP: list[Column] = [("lr", "lr", "{:.1e}".format), ("grad_norm", "grad", "{:.3g}".format)]
MACHINE: list[Column] = [
    ("mfu", "mfu", percent), ("data_wait", "wait", percent), ("memory_gb", "mem", "{:.1f} GB".format),
]  # fmt: skip
NARROW, WIDE = 8, {"step": 12, "loss": 9, "ppl": 9, "val": 9, "lr": 10, "mem": 10, "left": 9}


def progress(title: str, total: int, unit: str, quiet: bool = False) -> Progress:
    """total 0 means unknown."""
    return Progress(title, total, unit, quiet)
