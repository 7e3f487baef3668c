"""Checkpoints to resume from: tensors in safetensors, scalars in JSON, checksums written last.

In and out: a `State`, everything a run needs to go on as if it had not stopped.

    checkpoints/step-200/{tensors.safetensors, state.json, checksums.json}

A checkpoint is written under a temporary name and renamed, so a kill or a full disk leaves the one before intact.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lvmlite.data.store import sha256, write_json

TENSORS, SCALARS, CHECKSUMS = "tensors.safetensors", "state.json", "checksums.json"


@dataclass
class State:
    """step: optimiser steps done; tensors: by name; scalars: JSON."""

    step: int
    tensors: dict[str, Tensor]
    scalars: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, state: State, keep: int = 2) -> Path:
    """Publish `folder/step-N` and delete all but the last `keep`.

    A checkpoint of a later step can only be one that was not whole, since the run went on from before it: it is
    deleted too.

    Raises:
        OSError: disk full; the half-written checkpoint is removed, earlier ones stay.
    """
    target = folder / f"step-{state.step}"
    partial = folder / f".step-{state.step}.partial"
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".step-*.partial"):
            shutil.rmtree(stale)
        partial.mkdir()
        save_file(tensors, partial / TENSORS)
        write_json(partial / SCALARS, {"step": state.step, **state.scalars})
        write_json(partial / CHECKSUMS, {name: sha256(partial / name) for name in (TENSORS, SCALARS)})
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            raise OSError(f"{target}: cannot write the checkpoint ({error}); earlier ones are kept") from None
        raise
    found = steps(folder)
    done = [step for step in found if step <= state.step]
    for old in done[:-keep] + found[len(done) :]:
        shutil.rmtree(folder / f"step-{old}")
    return target


def steps(folder: Path) -> list[int]:
    """The steps of all published checkpoints, ascending."""
    names = [re.fullmatch(r"step-(\d+)", path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in names if match)


def problem(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        expected = json.loads((checkpoint / CHECKSUMS).read_text(encoding="utf-8"))
        if not isinstance(expected, dict) or set(expected) != {TENSORS, SCALARS}:
            return f"{CHECKSUMS} is broken"
        for name, digest in expected.items():
            if sha256(checkpoint / name) != digest:
                return f"{name} does not match its checksum"
    except (json.JSONDecodeError, UnicodeDecodeError):
        return f"{CHECKSUMS} is broken"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename).name} cannot be read ({error.strerror})"
    return None


def latest(folder: Path) -> tuple[State | None, list[str]]:
    """The newest whole checkpoint, and a warning for each newer one that is not.

    Raises:
        ValueError: there are checkpoints, but none is whole.
    """
    warnings = []
    for step in reversed(steps(folder)):
        checkpoint = folder / f"step-{step}"
        if trouble := problem(checkpoint):
            warnings.append(f"{checkpoint}: {trouble}; going back to the checkpoint before")
            continue
        scalars = json.loads((checkpoint / SCALARS).read_text(encoding="utf-8"))
        return State(scalars.pop("step"), load_file(checkpoint / TENSORS), scalars), warnings
    if warnings:
        raise ValueError(
            f"{folder}: no checkpoint is whole ({warnings[0].split(';')[0]}); delete the folder to start anew"
        )
    return None, []


def misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first difference in names and shapes between what a net has and what a file holds, or None."""
    for name, tensor in expected.items():
        if name not in found:
            return f"{name} is missing"
        if tensor.shape != found[name].shape:
            return f"{name} has shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
    return next((f"{name} is unknown" for name in found if name not in expected), None)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """The tensors of an optimiser by parameter name. names: id(parameter) -> name."""
    return {
        f"{names[id(parameter)]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[int, str], tensors: Mapping[str, Tensor]
) -> None:
    """Inverse of `optimizer_tensors` for AdamW; a parameter without entries has had no gradient yet, and starts fresh.

    Raises:
        ValueError: the tensors are not those of this optimiser's parameters.
    """
    entries: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        entries.setdefault(parameter_name, {})[key] = tensor
    state: dict[Tensor, dict[str, Tensor]] = {}
    for group in optimizer.param_groups:
        on_device = group.get("fused") or group.get("capturable")  # where PyTorch wants the step count
        for parameter in group["params"]:
            name = names[id(parameter)]
            mine = entries.pop(name, None)
            if mine is None:
                continue
            count = mine.get("step", parameter)
            if trouble := misfit({"step": count, "exp_avg": parameter, "exp_avg_sq": parameter}, mine):
                raise ValueError(f"the moments of {name}: {trouble}")
            mine["step"] = count.to(parameter.device, copy=True) if on_device else count.clone()
            for key in ("exp_avg", "exp_avg_sq"):  # laid out as the parameter is: the fused step pairs them by address
                mine[key] = torch.empty_like(parameter, dtype=mine[key].dtype).copy_(mine[key])
            state[parameter] = mine
    if entries:
        raise ValueError(f"there is no parameter {next(iter(entries))}")
    optimizer.state.clear()
    optimizer.state.update(state)
