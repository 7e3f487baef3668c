"""Cost: the paper's own claim, on this machine.

What does a token cost in a context of one image, and in one of sixteen? LVM-Lite reports a whole training 1.7x to 2.7x
faster; its forward FLOPs alone say 1.2x to 1.6x a token. Here both contexts take real optimiser steps on equal numbers
of tokens, interleaved, the first steps dropped. The model measured is a fresh one of a preset's shape.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Literal

import torch

from lvmlite.devices import Precision, use_bf16
from lvmlite.evaluate.bench import TokenizerBench
from lvmlite.evaluate.protocols.base import Progress, Protocol
from lvmlite.evaluate.results import Result, Table, Value
from lvmlite.model.architecture import Architecture, ModelConfig
from lvmlite.model.flops import forward_flops
from lvmlite.model.transformer import Transformer
from lvmlite.recipe import Range

PAPER_SPEEDUP = "1.7x - 2.7x"  # LVM-Lite, 256 TPU-v3 cores, whole training


@dataclass
class CostConfig:
    """Steps of `long` positions each: sequences of `short`, then one of `long`, turn by turn.

    Attributes:
        preset: of the model; codebook_size: of its vocabulary (8192 in the papers).
        short, long: contexts; steps: of each, after `warmup` that do not count.
    """

    protocol: Literal["cost"] = "cost"
    preset: str = "nano"
    codebook_size: Annotated[int, Range(2)] = 1024
    short: Annotated[int, Range(1)] = 256
    long: Annotated[int, Range(1)] = 4096
    steps: Annotated[int, Range(1)] = 10
    warmup: Annotated[int, Range(0)] = 2
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.long % self.short:
            raise ValueError(f"long {self.long} is not a multiple of short {self.short}")


class Cost(Protocol):
    """Seconds per step at equal tokens, their ratio, and FLOPs alone."""

    needs_model = False

    def __init__(self, config: CostConfig):
        self.config = config

    def run(self, bench: TokenizerBench, progress: Progress) -> Result:
        device = bench.device
        arch = ModelConfig(self.config.preset, max_seq_len=self.config.long).resolve(self.config.codebook_size)
        bf16 = use_bf16(device, self.config.precision)
        seconds = self.measure(arch, device, bf16, progress)
        return self.result(arch, seconds, bf16)

    def measure(
        self, arch: Architecture, device: torch.device, bf16: bool, progress: Progress
    ) -> dict[int, list[float]]:
        """Context -> seconds of each counted step."""
        c = self.config
        model = Transformer(arch).init_weights(0).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(c.codebook_size, (c.long,), generator=generator).to(device)
        seconds: dict[int, list[float]] = {c.short: [], c.long: []}
        for step in range(c.warmup + c.steps):
            for context, times in seconds.items():
                batch = tokens.view(-1, context)
                begun = time.perf_counter()
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    loss = model(batch, batch).mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if step >= c.warmup:
                    times.append(time.perf_counter() - begun)
            progress(step + 1, c.warmup + c.steps)
        return seconds

    def result(self, arch: Architecture, seconds: dict[int, list[float]], bf16: bool) -> Result:
        c = self.config
        time_ratio = median(seconds[c.long]) / median(seconds[c.short])
        flops = {context: forward_flops(arch, context) / context for context in (c.short, c.long)}
        flops_ratio = flops[c.long] / flops[c.short]
        single = [b / a for a, b in zip(seconds[c.short], seconds[c.long])]
        rows: list[list[Value]] = []
        for context, times in seconds.items():
            name = f"{c.long // context} x {context}"
            rows.append([name, median(times), round(c.long / median(times)), flops[context] / 1e6])
        rows.append([f"ratio, {c.long} / {c.short}", time_ratio, None, flops_ratio])
        rows.append(["LVM-Lite, whole training, 300M to 3B, TPU", PAPER_SPEEDUP, None, "1.2x - 1.6x"])
        table = Table(
            "cost",
            "The paper's claim on this machine: a token in single images and in long sequences",
            ["sequences x context", "seconds a step (median)", "tokens/s", "forward MFLOPs a token"],
            rows,
            note=(
                f"Full training steps of the {c.preset} shape ({arch.n_parameters / 1e6:.1f} M parameters, "
                f"{c.codebook_size} codes, {'bf16 autocast' if bf16 else 'fp32'}), {c.steps} of each, interleaved, "
                f"{c.warmup} dropped; ratios of single pairs {min(single):.2f} to {max(single):.2f}. This is stage 1 "
                "per token; the paper's figure is a whole training and does not say if it contains fine-tuning."
            ),
        )
        values: dict[str, Value] = {
            "speedup_per_token": time_ratio,
            "flops_ratio_per_token": flops_ratio,
            "paper": PAPER_SPEEDUP,
        }
        return Result(c.protocol, values=values, tables=[table])
