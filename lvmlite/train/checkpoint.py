"""Checkpoints to resume from: each rank's tensors in safetensors, scalars in JSON, checksums written last.

In and out: a `State`, everything a run needs to go on as if it had not stopped, on any number of ranks.

    checkpoints/step-200/{rank-0.safetensors, rank-1.safetensors, ..., index.json, state.json, checksums.json}

`Checkpointer.save` copies the state and returns; threads write the copies under a temporary name while training goes
on. When every rank's part is written, the folder is renamed: a kill or a full disk leaves the one before intact.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lvmlite import distributed
from lvmlite.data.store import sha256, write_json
from lvmlite.train.pieces import INDEX, Piece, Pieces, covered, describe, merge, snapshot

SCALARS, CHECKSUMS = "state.json", "checksums.json"
BROKEN, MISMATCH = 10_000, 10_001  # told between ranks as numbers, as the system's error numbers are


@dataclass
class State:
    """step: optimiser steps done; tensors: by name, each rank's own (DTensors) or the same on all; scalars: JSON."""

    step: int
    tensors: Mapping[str, Tensor]
    scalars: dict[str, Any] = field(default_factory=dict)


@dataclass
class Found(State):
    """A state on disk: its tensors are read when asked for."""

    tensors: Pieces


class Checkpointer:
    """Writes checkpoints in the background. All ranks call the same methods after the same steps.

    After `save` the run asks `done`, which is of this rank alone, in each step, and tells the other ranks in a message
    that it sends anyway. Once all are done, it calls `publish`; at its end, or when it is stopped, `finish`.

    Args:
        folder: receives `step-N`, on a file system that all ranks see; keep: how many of the last stay.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")  # at the end of the program Python waits for it
        self._pending: State | None = None  # without its tensors
        self._written: Future[None] | None = None
        self._room: Tensor | None = None  # of the copies in host memory

    def save(self, state: State) -> None:
        """Copy the state to host memory and begin to write it; one still pending is finished first.

        Raises:
            OSError: the one before could not be written, or the folder cannot be.
        """
        self.finish()
        self._pending = State(state.step, {}, copy.deepcopy(state.scalars))
        self._on_main(self._make_partial)
        copies, self._room = snapshot(state.tensors, self._room)
        self._written = self._thread.submit(write_pieces, self._partial, distributed.rank(), copies)

    def done(self) -> bool:
        """Whether this rank writes no more: its part is whole, or has failed."""
        return self._written is None or self._written.done()

    def failed(self) -> OSError | None:
        """Why this rank could not write its part, once it is done: disk full."""
        if self._written is None or not self._written.done():
            return None
        error = self._written.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
        return error and self._told(error)

    def publish(self) -> None:
        """Once all ranks are done: name the checkpoint `step-N` and delete all but the last `keep`.

        A checkpoint of a later step can only be one that was not whole, since the run went on from before it: it is
        deleted too.

        Raises:
            OSError: a rank has failed, told by all; what was written is removed, earlier ones stay.
        """
        if self._pending is not None:
            assert self.done()
            self._agree(self.failed())
            self._on_main(self._seal)
            self._forget()

    def finish(self) -> None:
        """Wait for what is being written by this rank and the others, and publish it. Raises as `publish` does."""
        if self._written is not None:
            wait([self._written])
        self.publish()

    @property
    def _target(self) -> Path:
        assert self._pending is not None
        return self.folder / f"step-{self._pending.step}"

    @property
    def _partial(self) -> Path:
        return self._target.with_name(f".{self._target.name}.partial")

    def _make_partial(self) -> None:
        for stale in self.folder.glob(".step-*.partial"):
            shutil.rmtree(stale)
        self._partial.mkdir(parents=True)

    def _seal(self) -> None:
        assert self._pending is not None
        seal(self._partial, distributed.world_size(), self._pending)
        if self._target.exists():
            shutil.rmtree(self._target)
        os.replace(self._partial, self._target)
        found = steps(self.folder)
        done = [step for step in found if step <= self._pending.step]
        for old in done[: -self.keep] + found[len(done) :]:
            shutil.rmtree(self.folder / f"step-{old}")

    def _on_main(self, act: Callable[[], None]) -> None:
        """Have rank 0 do something while the others wait."""
        error = None
        if distributed.is_main():
            try:
                act()
            except OSError as caught:
                error = self._told(caught)
        self._agree(error)

    def _agree(self, error: OSError | None) -> None:
        """If a rank has an error, give up the pending checkpoint on all."""
        if distributed.largest(float(error is not None), _device()):
            error = error or self._told("another rank could not")
            if distributed.is_main():
                shutil.rmtree(self._partial, ignore_errors=True)
            self._forget()
            raise error

    def _told(self, why: object) -> OSError:
        return OSError(f"{self._target}: cannot write the checkpoint ({why}); earlier ones are kept")

    def _forget(self) -> None:
        self._pending = self._written = None


def save(folder: Path, state: State, keep: int = 2) -> Path:
    """Write and publish a checkpoint at once; gives its folder. Raises as `Checkpointer` does."""
    checkpointer = Checkpointer(folder, keep)
    checkpointer.save(state)
    checkpointer.finish()
    return folder / f"step-{state.step}"


def write_pieces(folder: Path, rank: int, pieces: Mapping[str, Piece]) -> None:
    """Write one rank's part, `rank-N.safetensors`, and a note for `seal`: what is in it, and its checksum.

    Raises:
        OSError: disk full; the part is removed.
    """
    file, note = folder / f"rank-{rank}.safetensors", _note(folder, rank)
    held = {name: piece.tensor.contiguous() for name, piece in pieces.items() if piece.tensor.numel()}
    try:
        if held:
            save_file(held, file)
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        checksums = {file.name: sha256(file)} if held else {}
        write_json(note, {"checksums": checksums, "tensors": describe(pieces, file.name)})
    except (OSError, SafetensorError) as error:
        file.unlink(missing_ok=True)
        raise OSError(str(error)) from None


def seal(folder: Path, ranks: int, state: State) -> None:
    """Make a folder into which all ranks have written a whole checkpoint."""
    index: dict[str, dict[str, Any]] = {}
    checksums: dict[str, str] = {}
    notes = [_note(folder, rank) for rank in range(ranks)]
    for note in notes:
        part = json.loads(note.read_text(encoding="utf-8"))
        checksums |= part["checksums"]
        merge(index, part["tensors"])
    for name, entry in index.items():
        assert covered(entry), f"{name} is not whole"
    write_json(folder / INDEX, index)
    write_json(folder / SCALARS, {"step": state.step, **state.scalars})
    write_json(folder / CHECKSUMS, checksums | {name: sha256(folder / name) for name in (INDEX, SCALARS)})
    for note in notes:
        note.unlink()


def _note(folder: Path, rank: int) -> Path:
    return folder / f".rank-{rank}.json"


def steps(folder: Path) -> list[int]:
    """The steps of all published checkpoints, ascending."""
    names = [re.fullmatch(r"step-(\d+)", path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in names if match)


def problem(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None. Ranks share the files between them, and agree."""
    expected, code = _read_checksums(checkpoint / CHECKSUMS)
    if code := int(distributed.largest(code, _device())):
        return _say(CHECKSUMS, code)
    rank, ranks = distributed.rank(), distributed.world_size()
    codes = [0.0] * len(expected)
    for i, (name, digest) in enumerate(expected.items()):
        if i % ranks == rank:
            codes[i] = _verify(checkpoint / name, digest)
    codes = distributed.totals(codes, _device())
    return next((_say(name, int(code)) for name, code in zip(expected, codes) if code), None)


def _read_checksums(path: Path) -> tuple[dict[str, Any], int]:
    """Checksums by file, and what is wrong with them, 0 if nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}, BROKEN
    except OSError as error:
        return {}, error.errno or errno.EIO
    return (found, 0) if isinstance(found, dict) and {INDEX, SCALARS} <= found.keys() else ({}, BROKEN)


def _verify(path: Path, digest: str) -> int:
    """What is wrong with a file, 0 if nothing."""
    try:
        return 0 if sha256(path) == digest else MISMATCH
    except OSError as error:
        return error.errno or errno.EIO


def _say(name: str, code: int) -> str:
    said = {BROKEN: "is broken", MISMATCH: "does not match its checksum", errno.ENOENT: "is missing"}
    return f"{name} {said.get(code) or f'cannot be read ({os.strerror(code)})'}"


def latest(folder: Path) -> tuple[Found | None, list[str]]:
    """The newest whole checkpoint, and a warning for each newer one that is not. The same on all ranks.

    Raises:
        ValueError: there are checkpoints, but none is whole.
    """
    warnings: list[str] = []
    step = _newest(folder)
    while step >= 0:
        checkpoint = folder / f"step-{step}"
        if not (trouble := problem(checkpoint)):
            scalars = json.loads((checkpoint / SCALARS).read_text(encoding="utf-8"))
            return Found(scalars.pop("step"), Pieces(checkpoint), scalars), warnings
        warnings.append(f"{checkpoint}: {trouble}; going back to the checkpoint before")
        step = _newest(folder, below=step)
    if warnings:
        raise ValueError(
            f"{folder}: no checkpoint is whole ({warnings[0].split(';')[0]}); delete the folder to start anew"
        )
    return None, []


def _newest(folder: Path, below: float = float("inf")) -> int:
    """The newest step before one that any rank sees, -1 if there is none."""
    return int(distributed.largest(max((step for step in steps(folder) if step < below), default=-1), _device()))


def _device() -> torch.device:
    """Where ranks exchange numbers."""
    import torch.distributed as dist

    on_gpu = dist.is_initialized() and "nccl" in dist.get_backend()
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first difference in names and shapes between what a net has and what a file holds, or None."""
    for name, tensor in expected.items():
        if name not in found:
            return f"{name} is missing"
        shape = found.shape(name) if isinstance(found, Pieces) else tuple(found[name].shape)
        if tuple(tensor.shape) != shape:
            return f"{name} has shape {shape}, expected {tuple(tensor.shape)}"
    return next((f"{name} is unknown" for name in found if name not in expected), None)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The tensors of an optimiser by parameter name, sharded as the parameters are. names: id(parameter) -> name."""
    return {
        f"{names[id(parameter)]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str], tensors: Pieces) -> None:
    """Inverse of `optimizer_tensors` for AdamW; a parameter without entries has had no gradient yet, and starts fresh.

    Raises:
        ValueError: the tensors are not those of this optimiser's parameters.
    """
    known = {names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]}
    saved = {name.rpartition("/")[0] for name in tensors}
    if foreign := sorted(saved - known):
        raise ValueError(f"there is no parameter {foreign[0]}")
    state: dict[Tensor, dict[str, Tensor]] = {}
    for group in optimizer.param_groups:
        on_device = group.get("fused") or group.get("capturable")  # where PyTorch wants the step count
        for parameter in group["params"]:
            name = names[id(parameter)]
            if name not in saved:
                continue
            mine = tensors.under(f"{name}/")
            if trouble := misfit({"step": torch.empty(()), "exp_avg": parameter, "exp_avg_sq": parameter}, mine):
                raise ValueError(f"the moments of {name}: {trouble}")
            moments = {"step": mine["step"].to(parameter.device if on_device else "cpu")}
            for key in ("exp_avg", "exp_avg_sq"):  # laid out as the parameter is: the fused step pairs them by address
                moments[key] = torch.empty_like(parameter, dtype=mine.dtype(key), requires_grad=False)
                mine.read_into(key, moments[key])
            state[parameter] = moments
    optimizer.state.clear()
    optimizer.state.update(state)
