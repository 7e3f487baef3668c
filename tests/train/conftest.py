"""Tiny stores, and tiny trainings in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lvmlite

SCRIPT = Path(__file__).parent / "tiny_runs.py"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(lvmlite.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def program(argument: str) -> subprocess.Popen[str]:
    """tiny_runs.py in a process of its own."""
    command = [sys.executable, str(SCRIPT), argument]
    return subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Server:
    """Starts trainings in processes forked from one that has PyTorch imported; one at a time."""

    def __init__(self, data: Path):
        self.data = data
        self.process = program("serve")

    def command(self, what: str, folder: Path, **settings: Any) -> str:
        return json.dumps({"what": what, "data": str(self.data), "folder": str(folder), **settings})

    def alone(self, what: str, folder: Path, **settings: Any) -> subprocess.Popen[str]:
        """Start a training in a fresh interpreter."""
        return program(self.command(what, folder, **settings))

    def ask(self, line: str) -> list[int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        found: list[int] = json.loads(self.process.stdout.readline())
        return found

    def start(self, what: str, folder: Path, **settings: Any) -> list[int]:
        """Start a training; gives the process id of each rank. `wait` must follow."""
        return self.ask(self.command(what, folder, **settings))

    def wait(self) -> list[int]:
        """Exit codes: 2 an error of one line, 3 interrupted, -9 killed."""
        return self.ask("wait")

    def stop(self, what: str, folder: Path, number: int, when: Callable[[], None], **settings: Any) -> int:
        """Start a training and send it a signal; `when` returns when it is time. Gives the exit code."""
        (pid,) = self.start(what, folder, **settings)
        try:
            when()
            os.kill(pid, number)
        finally:
            (code,) = self.wait()
        return code

    def kill(self, what: str, folder: Path, first: int, when: Callable[[], None], **settings: Any) -> list[int]:
        """Start a training and kill one rank, then the others as a launcher does; gives the exit codes."""
        pids = self.start(what, folder, **settings)
        try:
            when()
            for pid in [pids.pop(first), *pids]:
                os.kill(pid, signal.SIGKILL)
        finally:
            codes = self.wait()
        return codes

    def run(self, what: str, folder: Path, **settings: Any) -> int:
        """Train to the end; gives the exit code."""
        self.start(what, folder, **settings)
        return max(self.wait(), key=abs)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a token store and a pixel store. Read only."""
    folder = tmp_path_factory.mktemp("stores")
    program(json.dumps({"write": str(folder)})).communicate(timeout=60)
    return folder


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[Server]:
    made = Server(data)
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    made.process.wait(timeout=30)
