"""Peak memory of a training step against the context: 4K, 16K and 32K positions, for each `activations` setting.

    python benchmarks/memory.py [--presets nano 300m:2] [--contexts 4096 16384 32768] [--out FILE]

One sentence of random codes; each case is a process of its own that takes an optimiser step of our engine at 256
positions, so that the moments are there, and one at the context. Reported are the peak (the process's growth on a CPU,
allocated memory on a GPU), the part of it that weights, gradients and moments take, and for comparison the size of one
(T, V) float32 tensor of logits and of one (H, T, T) matrix of scores.
`300m:2` is the 300m's shape with 2 of its 22 layers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import torch
from stages import make_trainer, set_activations
from training import CODES, head

from lvmlite.devices import keep_freed_memory, peak_memory_gb, pick_device, use_bf16
from lvmlite.model.architecture import Architecture, ModelConfig
from lvmlite.model.transformer import Activations, Transformer
from lvmlite.train.meter import Window, held_gb


def shape_of(preset: str, context: int) -> Architecture:
    name, _, layers = preset.partition(":")
    return ModelConfig(name, n_layers=int(layers) if layers else None, max_seq_len=context).resolve(CODES)


def one_case(preset: str, context: int, activations: str, device: torch.device) -> dict[str, Any]:
    """Numbers in GB."""
    if device.type == "cpu":
        keep_freed_memory()
    arch = shape_of(preset, context)
    before = peak_memory_gb() if device.type == "cpu" else 0.0
    model = Transformer(arch).init_weights(0).to(device)
    for length in (256, context):
        trainer = make_trainer(model, 1, length, activations, use_bf16(device))
        set_activations(model, activations)
        loss = trainer.one_step(Window(1))["loss"]
    peak = held_gb(device) - before
    return {
        "peak GB": round(peak, 2),
        "of it weights, gradients, moments": round(arch.n_parameters * 16 / 1e9, 2),
        "one (T, V) float32 of logits would be": round(context * arch.vocab_size * 4 / 1e9, 2),
        "one (H, T, T) of scores would be": round(arch.n_heads * context**2 * 4 / 1e9, 2),
        "loss": round(loss, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["nano", "300m:2"])
    parser.add_argument("--contexts", nargs="+", type=int, default=[4096, 16384, 32768])
    parser.add_argument("--activations", nargs="+", default=list(get_args(Activations)))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    parser.add_argument("--case", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = pick_device(args.device)
    if args.case:
        print(json.dumps(one_case(args.presets[0], args.contexts[0], args.activations[0], device)))
        return
    result = head("memory", device, use_bf16(device))
    for preset in args.presets:
        for context in args.contexts:
            for kept in args.activations if context < 32768 else [args.activations[0], args.activations[-1]]:
                command = [sys.executable, __file__, "--case", "--presets", preset, "--contexts", str(context)]
                done = subprocess.run(
                    [*command, "--activations", kept, "--device", args.device], capture_output=True, text=True
                )
                lines = done.stdout.splitlines()
                found = json.loads(lines[-1]) if done.returncode == 0 else {"failed": done.stderr.splitlines()[-1:]}
                result.setdefault(preset, {}).setdefault(str(context), {})[kept] = found
                print(preset, context, kept, json.dumps(found), flush=True)
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
