"""Studies: controlled measurements that answer one question of the papers.

`cost`: what does a token cost in a context of one image and in one of sixteen, on this machine? LVM-Lite reports a
whole training 1.7x to 2.7x faster; its forward FLOPs alone say 1.2x to 1.6x a token. Here both contexts take real
optimiser steps on equal numbers of tokens, interleaved, the first steps dropped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import torch

from lvmlite.devices import Precision, describe_machine, use_bf16
from lvmlite.evaluate.results import Result, Table, Value
from lvmlite.model.flops import forward_flops
from lvmlite.model.transformer import ModelConfig, Transformer
from lvmlite.recipe import Range
from lvmlite.train.optim import OptimConfig, adamw

PAPER_SPEEDUP = "1.7x - 2.7x"  # LVM-Lite, 256 TPU-v3 cores, whole training


@dataclass
class CostConfig:
    """Steps of `long` positions each: sequences of `short`, then one of `long`, turn by turn.

    Attributes:
        preset: of the model; codebook_size: of its vocabulary (8192 in the papers).
        short, long: contexts; steps: of each, after `warmup` that do not count.
    """

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


def measure_cost(config: CostConfig, device: torch.device) -> Result:
    """Seconds per step at equal tokens, their ratio, and FLOPs alone."""
    begun = time.perf_counter()
    arch = ModelConfig(preset=config.preset, max_seq_len=config.long).resolve(config.codebook_size)  # type: ignore[arg-type]
    model = Transformer(arch).init_weights(0).to(device)
    optimizer = adamw(model.named_parameters(), OptimConfig())
    bf16 = use_bf16(device, config.precision)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.codebook_size, (config.long,), generator=generator).to(device)
    seconds: dict[int, list[float]] = {config.short: [], config.long: []}
    for step in range(config.warmup + config.steps):
        for context, times in seconds.items():
            batch = tokens.view(-1, context)
            at = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = model(batch, batch).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if step >= config.warmup:
                times.append(time.perf_counter() - at)
    short, long = (median(seconds[context]) for context in (config.short, config.long))
    flops = {context: forward_flops(arch, context) / context for context in (config.short, config.long)}
    by_pair = sorted(b / a for a, b in zip(seconds[config.short], seconds[config.long]))
    rows: list[list[Value]] = [
        [
            f"{config.long // c} x {c}",
            round(median(seconds[c]), 4),
            round(config.long / median(seconds[c])),
            flops[c] / 1e6,
        ]
        for c in (config.short, config.long)
    ]
    rows.append(
        ["ratio, long / short", round(long / short, 3), None, round(flops[config.long] / flops[config.short], 3)]
    )
    table = Table(
        "cost",
        "The paper's claim on this machine: what a token costs in stage 1 and in random sequences",
        ["sequences x context", "seconds a step (median)", "tokens/s", "forward MFLOPs a token"],
        rows,
        note=(
            f"Full training steps of the {config.preset} shape ({arch.n_parameters / 1e6:.1f} M parameters, "
            f"{config.codebook_size} codes, {'bf16' if bf16 else 'fp32'}), {config.steps} of each, interleaved, "
            f"{config.warmup} dropped; ratios of single pairs from {by_pair[0]:.2f} to {by_pair[-1]:.2f}. This is the "
            f"cost of stage 1 per token; the paper's {PAPER_SPEEDUP} is a whole training of 0.3 to 3 B parameters."
        ),
    )
    values: dict[str, Value] = {
        "speedup_per_token": long / short,
        "flops_ratio_per_token": flops[config.long] / flops[config.short],
        "paper": PAPER_SPEEDUP,
    }
    machine = describe_machine(device)
    settings = {"preset": config.preset, "short": config.short, "long": config.long, "steps": config.steps} | machine
    return Result("cost", settings, values, [table], seconds=time.perf_counter() - begun)
