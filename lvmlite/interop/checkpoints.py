"""Weights that other systems saved: safetensors, or PyTorch's own file. Nothing in a file is ever run.

In: a file, or a folder that holds one. Out: what was saved, tensors on the CPU, and the `config.json` beside it.

PyTorch's files are read with `weights_only`, which refuses every class and function. A few harmless ones that training
programs leave beside the weights are read as an empty placeholder in their stead.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

NAMES = (
    "model.safetensors",
    "pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")
MAGIC = (b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c")  # of PyTorch's files: a zip since 1.6, before it a number
# what torch.load was seen to raise for files cut short or with bytes changed; the file itself could be opened
BROKEN = (
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    struct.error,
)
RESAVE = 'keep its tensors only, where it was made: torch.save({"state_dict": model.state_dict()}, file)'


class Placeholder:
    """Stands for a class of another program: has no behaviour, and what was saved of it is not looked at."""


HARMLESS = (
    "argparse.Namespace",  # LlamaGen keeps the command's arguments
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",  # Lightning names callbacks by their class
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)


class Checkpoint(NamedTuple):
    file: Path
    content: dict[str, Any]  # as it was saved: tensors by name, or dictionaries of them
    config: dict[str, Any]  # of config.json; empty where there is none


def read_checkpoint(path: Path) -> Checkpoint:
    """Open a file of weights, or the one of a folder.

    Raises:
        ValueError: nothing to read, a broken file, or one that holds code; in one line. OSError.
    """
    file = _only_weights(path) if path.is_dir() else path
    config = file.with_name("config.json")
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    return Checkpoint(file, content, _read_json(config) if config.is_file() else {})


def _only_weights(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{folder}: holds {len(found)} files of weights; name one: {found[0].name}, {found[1].name} ..."
        )
    raise ValueError(f"{folder}: no weights here; expected {', '.join(NAMES)} or one file {', '.join(SUFFIXES[1:])}")


def _read_safetensors(file: Path) -> dict[str, Any]:
    try:
        return dict(load_file(file))
    except SafetensorError as error:
        raise ValueError(f"{file}: a broken safetensors file ({error}); fetch it again") from None


def _read_torch(file: Path) -> dict[str, Any]:
    with open(file, "rb") as opened:
        if not opened.read(8).startswith(MAGIC):
            raise ValueError(f"{file}: neither a PyTorch file nor named .safetensors")
    try:
        with torch.serialization.safe_globals([(Placeholder, name) for name in HARMLESS]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except torch.serialization.pickle.UnpicklingError as error:
        if code := re.search(r"GLOBAL ([\w.]+\w)", str(error)):
            raise ValueError(f"{file}: holds code, {code[1]}, which is not run; {RESAVE}") from None
        raise ValueError(f"{file}: holds more than tensors, or is broken; fetch it again, or {RESAVE}") from None
    except BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{file}: a broken PyTorch file ({reason}); fetch it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds a {type(content).__name__}, not tensors by name")
    return content


def _read_json(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: broken ({error}); fetch it again") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file}: not a JSON object; fetch it again")
    return config
