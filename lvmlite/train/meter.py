"""How fast a run is and what it holds: rates, data wait, MFU, memory, device-hours.

In: seconds of each step, and how long of them it waited for data. Out: numbers for a log line. Only steps count:
validation and checkpoints are in the device-hours, not in the rates.

MFU (PaLM, arXiv 2204.02311, appendix B): the FLOPs that training needs, over those that the devices could have done
in the time; recomputed activations do not count.
"""

from __future__ import annotations

import re
import time

import torch

from lvmlite import distributed
from lvmlite.devices import peak_memory_gb

# FLOP/s of dense bf16 products with fp32 sums, by a word of the device's name; makers' data sheets
PEAK_FLOPS = {
    "B200": 2250e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
    "A40": 150e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 5090": 209e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "MI300X": 1307e12,
    "MI325X": 1307e12,
    "MI250X": 383e12,
}


def peak_flops(device: torch.device) -> float | None:
    """The peak of dense bf16 products of a device in FLOP/s; None if it is not known, as on a CPU."""
    return named_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def named_peak(name: str) -> float | None:
    """`peak_flops` by the name that the driver gives, e.g. "NVIDIA H100 80GB HBM3"."""
    if "Laptop" in name:  # slower than the card of that number
        return None
    return next((peak for word, peak in PEAK_FLOPS.items() if re.search(rf"\b{word}\b", name)), None)


class Window:
    """Time and data wait of the steps since the last log line. size: units (tokens, images) of a global batch."""

    def __init__(self, size: float):
        self.size, self.seconds, self.waited, self.n = size, 0.0, 0.0, 0

    def add(self, seconds: float, waited: float) -> None:
        self.seconds, self.waited, self.n = self.seconds + seconds, self.waited + waited, self.n + 1

    def clear(self) -> None:
        self.seconds, self.waited, self.n = 0.0, 0.0, 0

    def read(self, unit: str) -> dict[str, float]:
        seconds = max(self.seconds, 1e-9)
        return {
            f"{unit}_per_s": round(self.n * self.size / seconds, 1),
            "data_wait": round(self.waited / seconds, 4),
            "seconds": round(self.seconds, 3),
        }


class Meter(Window):
    """All that a log line says beside what the learner does.

    Args:
        unit: what `size` counts; pictures: of a global batch, where the unit is another; 0 if not known.
        flops: training FLOPs of a global batch, 0 if not known; peak: of one device in FLOP/s, None if not known.
        device_hours: of the run until now.
    """

    def __init__(
        self,
        unit: str,
        size: float,
        device: torch.device,
        *,
        pictures: float = 0.0,
        flops: float = 0.0,
        peak: float | None = None,
        device_hours: float = 0.0,
    ):
        super().__init__(size)
        self.unit, self.device, self.pictures, self.flops, self.peak = unit, device, pictures, flops, peak
        self.begun, self.device_hours = time.perf_counter(), device_hours

    def numbers(self) -> dict[str, float]:
        """Of the steps since `clear`; memory is the most that this rank has held on its device so far, in GB."""
        found = self.read(self.unit)
        seconds = max(self.seconds, 1e-9)
        if self.pictures and self.unit != "images":
            found["images_per_s"] = round(self.n * self.pictures / seconds, 1)
        if self.flops and self.peak:
            found["mfu"] = round(self.n * self.flops / seconds / (self.peak * distributed.world_size()), 4)
        found["memory_gb"] = round(held_gb(self.device), 3)
        spent = (time.perf_counter() - self.begun) * distributed.world_size() / 3600
        return found | {"device_hours": round(self.device_hours + spent, 5)}


def held_gb(device: torch.device) -> float:
    """The most memory held so far, in GB: tensors on the GPU where there is one, else the whole process."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else peak_memory_gb()
