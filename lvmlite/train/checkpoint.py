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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lvmlite.data.store import sha256, write_json


@dataclass
class State:
    """step: optimiser steps done; tensors: by name; scalars: JSON."""

    step: int
    tensors: dict[str, Tensor]
    scalars: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, state: State, keep: int = 2) -> Path:
    """Publish `folder/step-N` and delete all but the last `keep`.

    Raises:
        OSError: disk full; the half-written checkpoint is removed, earlier ones stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{state.step}"
    partial = folder / f".step-{state.step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        tensors = {name: t.detach().cpu().contiguous() for name, t in state.tensors.items()}
        try:
            save_file(tensors, partial / "tensors.safetensors")
        except SafetensorError as error:
            raise OSError(f"{target}: cannot write the checkpoint: {error}") from None
        write_json(partial / "state.json", {"step": state.step, **state.scalars})
        names = ("tensors.safetensors", "state.json")
        write_json(partial / "checksums.json", {name: sha256(partial / name) for name in names})
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step-{old}")
    return target


def steps(folder: Path) -> list[int]:
    """The steps of all published checkpoints, ascending."""
    names = [re.fullmatch(r"step-(\d+)", path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in names if match)


def problem(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        expected = json.loads((checkpoint / "checksums.json").read_text())
    except FileNotFoundError:
        return "checksums.json is missing"
    except (json.JSONDecodeError, UnicodeDecodeError):
        return "checksums.json is broken"
    for name, digest in expected.items():
        if not (checkpoint / name).exists():
            return f"{name} is missing"
        if sha256(checkpoint / name) != digest:
            return f"{name} does not match its checksum"
    return None


def read(checkpoint: Path) -> State:
    """One checkpoint. Raises ValueError, in one line, if it is not whole."""
    if trouble := problem(checkpoint):
        raise ValueError(f"{checkpoint}: {trouble}; delete this checkpoint to start from the one before")
    scalars = json.loads((checkpoint / "state.json").read_text())
    return State(scalars.pop("step"), load_file(checkpoint / "tensors.safetensors"), scalars)


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
        return read(checkpoint), warnings
    if warnings:
        raise ValueError(
            f"{folder}: no checkpoint is whole ({warnings[0].split(';')[0]}); delete the folder to start anew"
        )
    return None, []


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """The tensors of an optimiser by parameter name. names: id(parameter) -> name."""
    return {
        f"{names[id(parameter)]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str], tensors: dict[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`; a parameter without entries starts fresh."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = names[id(parameter)] + "/"
            mine = {
                k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix) and "/" not in k[len(prefix) :]
            }
            if mine:
                optimizer.state[parameter] = {
                    k: v.clone() if k == "step" else v.to(parameter.device).clone() for k, v in mine.items()
                }
