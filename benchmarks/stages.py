"""What a token costs in single images, in random sequences, and as the released LVM trains.

    python benchmarks/stages.py [--presets nano 100m 300m:6] [--repeat 3] [--out benchmarks/results/stages.json]

Full training steps of our engine on the same model and the same number of tokens, in turn, medians after one that
warms up. `300m:6` is the 300m's shape with 6 of its 22 layers.
- single images: 16 x 256
- random sequences: 1 x 4096
- random sequences, LVM's way: 1 x 4096, every score of the attention computed (the half above the diagonal too) in
  chunks of 2,048 queries, MLP in chunks of 2,048 positions, nothing kept but the input of each block

Speed-ups are of stage 1 per token (i). The whole recipe (ii) at 200 + 100 epochs is 3r / (2 + r) for a ratio r, since
both arms have the same second stage. FLOPs alone stand beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from training import CODES, OPTIM, Drawn, head

from lvmlite.devices import keep_freed_memory, pick_device, use_bf16
from lvmlite.model import transformer
from lvmlite.model.architecture import ModelConfig
from lvmlite.model.flops import forward_flops
from lvmlite.model.transformer import Transformer
from lvmlite.train.language import LanguageLearner, LanguageTrainConfig
from lvmlite.train.loop import Trainer
from lvmlite.train.meter import Window

SHORT, LONG, CHUNK = 256, 4096, 2048
SINGLE, RANDOM, RELEASED = "single images", "random sequences", "random sequences, LVM's way"


def all_scores(q: Tensor, k: Tensor, v: Tensor, mask: Any = None) -> Tensor:
    """Causal attention that computes every score, 2,048 queries at a time."""

    def some(q: Tensor, start: int) -> Tensor:
        ahead = torch.arange(k.shape[2], device=q.device) > torch.arange(start, start + q.shape[2])[:, None].to(
            q.device
        )
        scores = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).masked_fill(ahead, -torch.inf)
        return scores.softmax(-1) @ v

    starts = range(0, q.shape[2], CHUNK)
    parts = [checkpoint(some, q[:, :, at : at + CHUNK], at, use_reentrant=False) for at in starts]
    return torch.cat(parts, dim=2)


@contextmanager
def released_attention() -> Iterator[None]:
    ours = transformer.attend
    transformer.attend = all_scores
    try:
        yield
    finally:
        transformer.attend = ours


def make_trainer(model: Transformer, batch: int, context: int, activations: str, bf16: bool) -> Trainer:
    device = model.lm_head.weight.device
    config = LanguageTrainConfig(steps=10**6, batch_size=batch, optim=OPTIM, precision="bf16" if bf16 else "fp32")
    config.activations = activations  # type: ignore[assignment]
    stream: Any = Drawn(batch, context)
    return Trainer(LanguageLearner(model, stream, config, bf16=bf16), config, Path("."), device, quiet=True)


def set_activations(model: Transformer, activations: Any) -> None:
    for block in model.model.layers:
        block.activations = activations


def measure(preset: str, args: argparse.Namespace) -> dict[str, Any]:
    name, _, layers = preset.partition(":")
    device = pick_device(args.device)
    arch = ModelConfig(name, n_layers=int(layers) if layers else None).resolve(CODES)
    model = Transformer(arch).init_weights(0).to(device)
    bf16 = use_bf16(device)
    ways = {SINGLE: (LONG // SHORT, SHORT, "keep"), RANDOM: (1, LONG, "keep"), RELEASED: (1, LONG, "bpt")}
    trainers = {way: make_trainer(model, b, t, kept, bf16) for way, (b, t, kept) in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    losses: dict[str, float] = {}
    for _ in range(args.repeat + 1):
        for way, trainer in trainers.items():
            set_activations(model, ways[way][2])
            with released_attention() if way == RELEASED else nullcontext():
                begun = time.perf_counter()
                losses[way] = trainer.one_step(Window(1))["loss"]
                seconds[way].append(time.perf_counter() - begun)
    median = {way: statistics.median(times[1:]) for way, times in seconds.items()}
    flops = {SINGLE: forward_flops(arch, SHORT) * LONG / SHORT, RANDOM: forward_flops(arch, LONG)}
    ratios = {way: median[way] / median[SINGLE] for way in (RANDOM, RELEASED)}
    return {
        "tokens per s": {way: round(LONG / s, 1) for way, s in median.items()},
        "seconds": {way: [round(s, 3) for s in times[1:]] for way, times in seconds.items()},
        "(i) stage 1 per token, times as fast as": {way: round(r, 3) for way, r in ratios.items()},
        "(ii) whole recipe at 200 + 100 epochs, times as fast": {
            way: round(3 * r / (2 + r), 3) for way, r in ratios.items()
        },
        "FLOPs of training alone, random over single": round(flops[RANDOM] / flops[SINGLE], 3),
        "FLOPs executed, LVM's way over single": round(4 / 3 * flops[RANDOM] / flops[SINGLE], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["nano", "100m", "300m:6"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/stages.json"))
    args = parser.parse_args()
    device = pick_device(args.device)
    if device.type == "cpu":
        keep_freed_memory()
    result = head("stages", device, use_bf16(device)) | {"tokens a step": LONG, "repeat": args.repeat}
    for preset in args.presets:
        result[preset] = measure(preset, args)
        print(preset, json.dumps(result[preset]["(i) stage 1 per token, times as fast as"]), flush=True)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
