"""Several processes as one: the process group, this process's rank, and sums over ranks.

Started by `torchrun`, which sets RANK, WORLD_SIZE and LOCAL_RANK; without it everything here is one process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(days=7)  # at a barrier, where the others wait for what the first rank draws or evaluates alone
SILENCE = timedelta(minutes=30)  # of a rank elsewhere, after which the others take it for lost

_waiting: dist.ProcessGroup | None = None  # of the barriers


def start(device: torch.device) -> torch.device:
    """Join the process group if torchrun started us; gives this rank's device."""
    global _waiting
    if "RANK" not in os.environ or dist.is_initialized():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=SILENCE)
    _waiting = dist.new_group(backend="gloo", timeout=PATIENCE)
    barrier()  # a rank that ends at once with a user's mistake must not break another's connecting
    return device


def end_with_parent() -> None:
    """Ask Linux for SIGTERM when torchrun dies: ranks left alone would go on beside those of the next start."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return


def stop() -> None:
    global _waiting
    if dist.is_initialized():
        dist.destroy_process_group()
    _waiting = None


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier(group=_waiting)


def total(value: float, device: torch.device) -> float:
    """The sum of a number over all ranks."""
    return totals([value], device)[0]


def totals(values: list[float], device: torch.device) -> list[float]:
    """The sum of each number over all ranks, in one message."""
    if world_size() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.tolist()


def largest(value: float, device: torch.device) -> float:
    """The largest of a number over all ranks."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return float(tensor)


def broadcast_(tensors: Iterable[Tensor]) -> None:
    """Make tensors those of rank 0, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def sum_(tensors: Iterable[Tensor]) -> None:
    """Sum tensors over all ranks, in place and in one message per dtype."""
    if world_size() == 1:
        return
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    for same in groups.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        dist.all_reduce(flat)
        for tensor, part in zip(same, flat.split([tensor.numel() for tensor in same])):
            tensor.copy_(part.view(tensor.shape))
