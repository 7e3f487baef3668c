"""A command of the command line: its name, what it does in a line, and what runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def command(
    group: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = group.add_parser(name, help=text, description=text, epilog=epilog)
    made.set_defaults(run=run)
    return made
