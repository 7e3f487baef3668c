"""What a run says while it works: log.jsonl for programs, a progress bar or plain lines for people."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class JsonLog:
    """Appends to log.jsonl. `after` drops lines beyond a step: a resumed run repeats none.

    A number that is not finite is written as null, since JSON has no other word for it.
    """

    def __init__(self, path: Path, after: int = 0):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_log(path) if line.get("step", 0) <= after] if path.exists() else []
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
        elif not self.quiet and now - self.told > 15:
            self.told = now
            left = f", {(self.total - done) / rate:.0f} s left" if rate > 0 and self.total else ""
            of = f"/{self.total}" if self.total else ""
            print(
                f"  {self.title}: {done}{of} {self.unit}, {rate:.1f}/s{left}  {text}",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


@contextmanager
def progress(title: str, total: int, unit: str, quiet: bool = False) -> Iterator[Progress]:
    """total 0 means unknown."""
    shown = Progress(title, total, unit, quiet)
    try:
        yield shown
    finally:
        shown.close()
