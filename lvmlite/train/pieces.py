"""Tensors on disk in pieces: each rank writes what it holds, and any number of ranks read what they need.

In: tensors by name; sharded ones (DTensor) give this rank's part. Out: `Pieces`, a folder of safetensors files read by
name and slice, so that no rank ever holds the whole.

    index.json: name -> {dtype, shape, pieces: [{file, offset, size}]}

`shape` is of the whole tensor; a piece is a block of it from `offset` on, kept in `file` under the tensor's name. The
pieces of a tensor are disjoint and cover it. A replicated tensor is one piece, written by one rank.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from safetensors import safe_open
from torch import Tensor

from lvmlite import distributed

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

INDEX = "index.json"
ALIGNED = 64  # bytes


@dataclass(frozen=True)
class Piece:
    """A block of a tensor. tensor: the block; offset: of its first element; shape: of the whole tensor."""

    tensor: Tensor
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        ends = zip(self.offset, self.tensor.shape, self.shape, strict=True)
        assert not self.tensor.numel() or all(start + size <= end for start, size, end in ends)


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether it is a DTensor, told without importing them, which takes seconds."""
    return hasattr(tensor, "device_mesh")


@torch.no_grad()
def local_part(tensor: Tensor) -> Piece:
    """This rank's part, sharing memory with the tensor; all of a plain one. It may be empty."""
    shape = tuple(tensor.shape)
    if not is_sharded(tensor):
        return Piece(tensor.detach(), (0,) * len(shape), shape)
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset as place

    local, (size, offset) = tensor.to_local(), place(shape, tensor.device_mesh, tensor.placements)
    assert tuple(local.shape) == tuple(size), f"a part of shape {tuple(local.shape)}, expected {size}"
    return Piece(local, tuple(offset), shape)


def piece_of(tensor: Tensor) -> Piece | None:
    """What this rank has to write of a tensor: of copies only the first is written, a plain tensor by rank 0."""
    if not is_sharded(tensor):
        return local_part(tensor) if distributed.is_main() else None
    at = tensor.device_mesh.get_coordinate()
    assert not any(placement.is_partial() for placement in tensor.placements)
    if at is None or any(c and placement.is_replicate() for c, placement in zip(at, tensor.placements)):
        return None
    return local_part(tensor)


def snapshot(tensors: Mapping[str, Tensor], room: Tensor | None = None) -> tuple[dict[str, Piece], Tensor]:
    """Copies in host memory of what this rank has to write: the tensors may change as soon as this returns.

    They lie in one block of bytes, given back to be used again: one, since pinned memory is had in powers of two.

    Args:
        room: the block of the last snapshot, no longer read.
    """
    pieces = {name: piece for name, tensor in tensors.items() if (piece := piece_of(tensor)) is not None}
    on_gpu = any(piece.tensor.is_cuda for piece in pieces.values())
    ends = list(accumulate(-(-piece.tensor.nbytes // ALIGNED) * ALIGNED for piece in pieces.values()))
    needed = ends[-1] if ends else 0
    if room is None or len(room) < needed:
        room = torch.empty(needed, dtype=torch.uint8, pin_memory=on_gpu)
    copies = {}
    for (name, piece), start in zip(pieces.items(), [0, *ends]):
        part = piece.tensor
        host = room[start : start + part.nbytes].view(part.dtype).view(part.shape)
        copies[name] = Piece(host.copy_(part, non_blocking=on_gpu), piece.offset, piece.shape)
    if on_gpu:  # once for all copies, which then overlap
        torch.cuda.synchronize()
    return copies, room


def describe(pieces: Mapping[str, Piece], file: str) -> dict[str, dict[str, Any]]:
    """The entries of the index for the pieces kept in one file; an empty piece is kept in none."""
    return {
        name: {
            "dtype": str(piece.tensor.dtype).removeprefix("torch."),
            "shape": list(piece.shape),
            "pieces": [{"file": file, "offset": list(piece.offset), "size": list(piece.tensor.shape)}]
            if piece.tensor.numel()
            else [],
        }
        for name, piece in pieces.items()
    }


def merge(index: dict[str, dict[str, Any]], entries: Mapping[str, dict[str, Any]]) -> None:
    """Add one rank's entries to the index of all."""
    for name, entry in entries.items():
        known = index.setdefault(name, entry | {"pieces": []})
        assert (known["dtype"], known["shape"]) == (entry["dtype"], entry["shape"]), f"{name} differs between ranks"
        known["pieces"] += entry["pieces"]


class Pieces(Mapping[str, Tensor]):
    """The tensors of a folder, read when asked for. As a mapping, it gives whole tensors on the CPU.

    Raises:
        ValueError: there is no index, or it is broken.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._files: dict[str, Any] = {}
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            self._entries = {name: _Entry(name, **entry) for name, entry in index.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / INDEX}: cannot be read ({error})") from None

    def under(self, prefix: str) -> Pieces:
        """The tensors whose names begin with a prefix, by the rest of their names."""
        found = copy.copy(self)  # the open files are shared
        found._entries = {n.removeprefix(prefix): e for n, e in self._entries.items() if n.startswith(prefix)}
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._entries[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        found = getattr(torch, self._entries[name].dtype)
        assert isinstance(found, torch.dtype)
        return found

    def read(self, name: str, offset: Sequence[int] | None = None, size: Sequence[int] | None = None) -> Tensor:
        """A block of a tensor, by default all of it; only what overlaps is read."""
        shape = self.shape(name)
        block = torch.empty(tuple(shape if size is None else size), dtype=self.dtype(name))
        self._fill(name, block, (0,) * len(shape) if offset is None else tuple(offset))
        return block

    def read_into(self, name: str, tensor: Tensor) -> None:
        """Fill a tensor in place, whatever its device, dtype and layout; of a sharded one this rank's part.

        Raises:
            ValueError: it has another shape.
        """
        if tuple(tensor.shape) != self.shape(name):
            raise ValueError(f"{name} has shape {self.shape(name)}, expected {tuple(tensor.shape)}")
        part = local_part(tensor)
        self._fill(name, part.tensor, part.offset)

    def _fill(self, name: str, block: Tensor, offset: tuple[int, ...]) -> None:
        """Copy what the pieces hold of the block that begins at `offset`."""
        entry, filled = self._entries[name], 0
        for piece in entry.pieces if block.numel() else []:
            low = [max(a, b) for a, b in zip(offset, piece["offset"])]
            high = [min(a + n, b + m) for a, n, b, m in zip(offset, block.shape, piece["offset"], piece["size"])]
            if any(a >= b for a, b in zip(low, high)):
                continue
            inside = tuple(slice(a - start, b - start) for a, b, start in zip(low, high, piece["offset"]))
            file = self._open(piece["file"])
            found = file.get_slice(entry.key)[inside] if inside else file.get_tensor(entry.key)
            block[tuple(slice(a - start, b - start) for a, b, start in zip(low, high, offset))].copy_(found)
            filled += found.numel()
        if filled != block.numel():
            raise ValueError(f"{self.folder}: {name} is not whole ({filled} of {block.numel()} values)")

    def _open(self, file: str) -> Any:
        if file not in self._files:
            self._files[file] = safe_open(self.folder / file, framework="pt")
        return self._files[file]

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True)
class _Entry:
    """What the index says of a tensor; key: its name in the files."""

    key: str
    dtype: str
    shape: list[int]
    pieces: list[dict[str, Any]]


def covered(entry: Mapping[str, Any]) -> bool:
    """Whether the (disjoint) pieces of an entry are as many values as the tensor has."""
    return sum(math.prod(piece["size"]) for piece in entry["pieces"]) == math.prod(entry["shape"])
