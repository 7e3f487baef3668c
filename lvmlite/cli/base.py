"""What the commands of the command line share: how one is added, and how results are shown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lvmlite.evaluate.results import Result


def command(
    group: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    """Add a command: its name, what it does in a line, and what runs it."""
    made: argparse.ArgumentParser = group.add_parser(name, help=text, description=text, epilog=epilog)
    made.set_defaults(run=run)
    return made


def print_tables(results: Sequence[Result]) -> None:
    """Every table of the results, with its note; 160 columns wide where no terminal says otherwise."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160, markup=False)
    for table in (table for result in results for table in result.tables):
        shown = Table(*table.columns, title=table.title, title_justify="left", caption=table.note or None)
        shown.caption_justify = "left"
        for row in table.rows:
            shown.add_row(*("-" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
        console.print(shown)
