"""The machine: which device computes, whether it has bf16 products, and what to write down about it."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any, Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def pick_device(name: str = "auto") -> torch.device:
    """ "auto" takes cuda, then mps, then cpu.

    Raises:
        ValueError: the device named is not here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device '{name}' is unknown: use auto, cpu, cuda, cuda:N or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device '{name}' is unknown: use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device '{name}' was asked for, but PyTorch finds no GPU: use device=cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device '{name}' was asked for, but there are only {torch.cuda.device_count()} GPUs, from cuda:0"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' was asked for, but PyTorch finds none: use device=cpu or auto")
    return device


def use_bf16(device: torch.device, precision: Precision = "auto") -> bool:
    """Whether to compute under bf16 autocast: on "auto", where the device has such products in hardware."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool({"amx_bf16", "avx512_bf16"} & cpu_flags())


def cpu_flags() -> set[str]:
    """The processor's feature flags as Linux lists them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split())


def peak_memory_gb() -> float:
    """The most memory this process has held, in GB; 0 on Windows, which does not tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, where the C library is glibc; gives whether it does.

    glibc hands large blocks back to the system at once, so every activation of a step is mapped and zeroed anew, page
    by page: a tenth to a quarter of a training step on two cores (benchmarks/results/training.json). The process then
    stays as large as it has ever been.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    return all([mallopt(mmap_max, 0), mallopt(trim_threshold, -1), mallopt(top_pad, 64 << 20)])


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a result must be read with: processor, cores, threads, device, versions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        cpu = platform.processor()
    return {
        "cpu": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "bf16": use_bf16(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }
