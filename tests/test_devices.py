"""Which device is picked, and what is said about the machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
import torch

from lvmlite import devices
from lvmlite.devices import cpu_flags, describe_machine, peak_memory_gb, pick_device, use_bf16


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """machine(n_gpus, mps): pretend."""

    def pretend(n_gpus: int, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


def test_auto_takes_the_fastest(machine) -> None:
    machine(0)
    assert pick_device() == torch.device("cpu")
    machine(0, mps=True)
    assert pick_device("auto") == torch.device("mps")
    machine(2, mps=True)
    assert pick_device("auto") == torch.device("cuda")


def test_a_named_device_is_taken(machine) -> None:
    machine(2)
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cuda", "'cuda' was asked for, but PyTorch finds no GPU"),
        ("cuda:1", "'cuda:1' was asked for, but PyTorch finds no GPU"),
        ("mps", "'mps' was asked for, but PyTorch finds none"),
        ("gpu", "'gpu' is unknown: use auto, cpu, cuda, cuda:N or mps"),
        ("", "'' is unknown"),
        ("cuda:x", "'cuda:x' is unknown"),
        ("meta", "'meta' is unknown"),
        ("xla", "'xla' is unknown"),
    ],
)
def test_a_device_that_is_not_here(name: str, said: str, machine) -> None:
    machine(0)
    with pytest.raises(ValueError, match=said) as error:
        pick_device(name)
    assert "\n" not in str(error.value)


def test_a_gpu_that_is_not_here(machine) -> None:
    machine(2)
    with pytest.raises(ValueError, match="'cuda:2' was asked for, but there are only 2 GPUs, from cuda:0"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("flags", "expected"), [({"avx2"}, False), ({"avx512_bf16", "avx2"}, True), ({"amx_bf16"}, True), (set(), False)]
)
def test_bf16_where_the_processor_has_it(flags: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu_flags", lambda: flags)
    assert use_bf16(torch.device("cpu")) is expected
    assert use_bf16(torch.device("cpu"), "bf16") is True
    assert use_bf16(torch.device("cpu"), "fp32") is False
    assert use_bf16(torch.device("mps")) is False


def test_bf16_on_a_gpu_must_be_real(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation))
    use_bf16(torch.device("cuda"))
    assert asked == [False]


def test_the_machine_is_described() -> None:
    about = describe_machine(torch.device("cpu"))
    assert json.loads(json.dumps(about)) == about
    assert about["threads"] == torch.get_num_threads()
    assert about["torch"] == torch.__version__
    assert about["device"] == "cpu"
    assert about["cpu"]
    assert 0.02 < peak_memory_gb() < 1000
    held = peak_memory_gb()
    torch.ones(50_000_000).sum()
    assert peak_memory_gb() >= held
    if sys.platform == "linux":
        assert not cpu_flags() or all(" " not in flag for flag in cpu_flags())


FAULTS = """
import ctypes, resource, sys
from lvmlite.devices import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(64 << 20)
    libc.memset(block, 1, 64 << 20)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
counts = [step() for _ in range(6)]
print(kept, counts[-1])
"""


def test_freed_memory_is_not_mapped_again() -> None:
    """64 MB are 16,384 pages of 4 kB, each a fault when it is mapped anew."""
    found = {}
    for mode in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        kept, faults = run.stdout.split()
        found[mode] = int(faults)
    assert kept == "False"
    if platform.libc_ver()[0] == "glibc":
        assert found["keep"] < 100 < 10_000 < found["leave"]
