"""What a log line says of speed, load and memory, checked by hand."""

from __future__ import annotations

import pytest
import torch

from lvmlite import distributed
from lvmlite.devices import peak_memory_gb
from lvmlite.train.meter import Meter, named_peak, peak_flops
from lvmlite.train.reporter import perplexity

CPU = torch.device("cpu")


def test_rates_are_of_the_steps_since_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    meter = Meter("tokens", 1024, CPU, pictures=4, flops=6e12, peak=1e12)
    meter.add(seconds=9.0, waited=9.0)
    meter.clear()
    meter.add(seconds=1.5, waited=0.0)
    meter.add(seconds=2.5, waited=0.4)
    found = meter.numbers()
    assert found["tokens_per_s"] == 512  # two batches in 4 s
    assert found["images_per_s"] == 2
    assert found["data_wait"] == 0.1
    assert found["seconds"] == 4
    assert found["mfu"] == 0.75  # 3 TFLOP/s of the 4 that four devices have
    assert found["memory_gb"] == pytest.approx(peak_memory_gb(), rel=0.05)
    assert meter.numbers()["tokens_per_s"] == 512  # reading does not clear
    meter.clear()
    assert meter.numbers()["tokens_per_s"] == 0


def test_device_hours_count_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 8)
    meter = Meter("images", 64, CPU, device_hours=2.5)
    assert meter.numbers()["device_hours"] == pytest.approx(2.5, abs=0.01)
    meter.begun -= 1800.0
    assert meter.numbers()["device_hours"] == pytest.approx(6.5, abs=0.01)


@pytest.mark.parametrize(("flops", "peak"), [(0.0, 1e12), (1e12, None)])
def test_no_mfu_is_made_up(flops: float, peak: float | None) -> None:
    meter = Meter("images", 64, CPU, pictures=64, flops=flops, peak=peak)
    meter.add(2.0, 0.0)
    found = meter.numbers()
    assert found.keys() == {"images_per_s", "data_wait", "seconds", "memory_gb", "device_hours"}
    assert found["images_per_s"] == 32


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("AMD Instinct MI300X", 1307e12),
        ("NVIDIA RTX A1000 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_peaks_by_name(name: str, peak: float | None) -> None:
    assert named_peak(name) == peak
    assert peak_flops(CPU) is None


def test_perplexity_of_any_loss() -> None:
    assert perplexity(2.0) == pytest.approx(7.389, abs=1e-3)
    assert perplexity(1e4) == float("inf")
    assert perplexity(float("nan")) != perplexity(float("nan"))
