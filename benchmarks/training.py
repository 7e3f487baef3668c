"""Speed of a full training step against transformers' LlamaForCausalLM of the same shape and weights.

    python benchmarks/training.py [--presets nano 100m] [--layers N] [--repeat 5] [--out FILE]
    python benchmarks/training.py --presets 300m 1b --device cuda

Each contestant is a process of its own, as its users would start it, and they take steps in turn: forward, loss,
backward, gradient clip at 1.0, fused AdamW, on the same weights, tokens and precision. Their losses must agree.
- lvmlite: `Trainer.one_step` of the engine, its stream drawing from memory
- transformers: SDPA attention, cross-entropy of its logits, torch's fused AdamW; on a GPU also with torch.compile
- transformers, freed memory kept: the same with lvmlite's setting of the C library's allocator (CPU only), to tell
  what that setting alone is worth
Reported: medians over the rounds after two that warm up, tokens/s, ratios; on a GPU also MFU against the bf16 peak
and against the largest matrix product measured here; a profile of one of our steps; and the share of a nano step that
it waits for a batch drawn from a real store.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from stream import make_store
from torch import Tensor

import lvmlite
from lvmlite.data.sentences import PairsConfig, SingleConfig, VideoConfig
from lvmlite.data.stream import Batch, Stream, StreamConfig
from lvmlite.devices import describe_machine, keep_freed_memory, pick_device, use_bf16
from lvmlite.model.architecture import Architecture, ModelConfig
from lvmlite.model.files import load_weights, save_weights
from lvmlite.model.flops import training_flops
from lvmlite.model.transformer import Transformer
from lvmlite.train.language import LanguageLearner, LanguageTrainConfig
from lvmlite.train.loop import Trainer
from lvmlite.train.meter import Window, peak_flops
from lvmlite.train.optim import OptimConfig

CODES = 8192
SHAPES = ((16, 256), (1, 4096))  # sentences x positions
OPTIM = OptimConfig(lr=1e-4, min_lr=1e-4, warmup_steps=0, decay_norms=True)
PLAIN, KEPT, COMPILED, OURS = "transformers", "transformers, freed memory kept", "transformers, compiled", "lvmlite"


class Drawn:
    """A stream of random codes; batch i is a function of i."""

    packed, padding = False, 0.0

    def __init__(self, batch_size: int, context: int):
        self.batch_size, self.context, self.n_pictures = batch_size, context, batch_size * context // 256

    @property
    def lengths(self) -> dict[int, float]:
        return {self.context: self.batch_size}

    def n_targets(self, index: int) -> int:
        return self.batch_size * self.context

    def batch(self, index: int, rank: int = 0, world_size: int = 1) -> Batch:
        codes = np.random.default_rng(index).integers(0, CODES, (self.batch_size, self.context + 1))
        document = np.zeros((self.batch_size, self.context), np.int32)
        return Batch(codes[:, :-1], codes[:, 1:], document, document[:, 0], False)


def our_step(weights: Path, stream: Any, device: torch.device, bf16: bool, activations: str) -> Callable[[], float]:
    config = LanguageTrainConfig(
        steps=10**6, batch_size=stream.batch_size, optim=OPTIM, precision="bf16" if bf16 else "fp32"
    )
    config.activations = activations  # type: ignore[assignment]
    learner = LanguageLearner(load_weights(weights).to(device), stream, config, bf16=bf16)
    trainer = Trainer(learner, config, weights / "run", device, quiet=True)
    window = Window(1)
    return lambda: float(trainer.one_step(window)["loss"])


def their_step(weights: Path, stream: Any, device: torch.device, bf16: bool, compiled: bool) -> Callable[[], float]:
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(weights, attn_implementation="sdpa", dtype=torch.float32).to(device)
    model.config.use_cache = False
    model.train()
    if compiled:
        model.compile()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=OPTIM.lr, betas=OPTIM.betas, weight_decay=OPTIM.weight_decay, fused=True
    )
    index = 0

    def step() -> float:
        nonlocal index
        batch = stream.batch(index)
        x, y = (torch.from_numpy(z).to(device) for z in (batch.inputs, batch.targets))
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits: Tensor = model(x).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, OPTIM.grad_clip)
        optimizer.step()
        index += 1
        return float(loss.detach())

    return step


def work(args: argparse.Namespace) -> None:
    """A contestant: a step for each line read, its seconds and loss for each line written."""
    device = pick_device(args.device)
    bf16 = use_bf16(device, args.precision)
    stream = Drawn(args.batch, args.context)
    if args.worker in (KEPT, OURS) and device.type == "cpu":
        keep_freed_memory()
    folder = Path(args.weights)
    if args.worker == OURS:
        step = our_step(folder, stream, device, bf16, args.activations)
    else:
        step = their_step(folder, stream, device, bf16, args.worker == COMPILED)
    for line in sys.stdin:
        begun = time.perf_counter()
        loss = step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        answer: dict[str, Any] = {"seconds": time.perf_counter() - begun, "loss": loss}
        if line.strip() == "memory":
            answer["memory"] = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        print(json.dumps(answer), flush=True)


class Contestant:
    """A process that takes a step when told to."""

    def __init__(self, name: str, weights: Path, batch: int, context: int, args: argparse.Namespace):
        command = [sys.executable, __file__, "--worker", name, "--weights", str(weights)]
        command += ["--batch", str(batch), "--context", str(context), "--device", args.device]
        command += ["--precision", args.precision, "--activations", args.activations]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self, what: str = "step") -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        print(what, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contestant ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compare(arch: Architecture, weights: Path, batch: int, context: int, args: argparse.Namespace) -> dict[str, Any]:
    device = pick_device(args.device)
    names = [PLAIN, KEPT, OURS] if device.type == "cpu" else [PLAIN, COMPILED, OURS]
    contestants = {name: Contestant(name, weights, batch, context, args) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gap, memory = 0.0, {}
    for i in range(args.repeat + 2):
        said = {name: contestant.step("memory") for name, contestant in contestants.items()}
        losses = [answer["loss"] for answer in said.values()]
        gap = max(gap, max(losses) - min(losses))
        memory = {name: answer["memory"] for name, answer in said.items() if answer.get("memory")}
        for name, answer in said.items():
            if i >= 2:
                seconds[name].append(answer["seconds"])
    for contestant in contestants.values():
        contestant.close()
    median = {name: statistics.median(times) for name, times in seconds.items()}
    tokens = batch * context
    found: dict[str, Any] = {
        "tokens per s": {name: round(tokens / s, 1) for name, s in median.items()},
        "seconds": {name: [round(s, 3) for s in times] for name, times in seconds.items()},
        "lvmlite, times as fast": {name: round(median[name] / median[OURS], 3) for name in names if name != OURS},
        "largest difference of the losses": round(gap, 6),
    }
    if memory:
        found["peak GB"] = {name: round(v, 2) for name, v in memory.items()}
    if device.type == "cuda":
        flops = training_flops(arch, context, tokens)
        for what, peak in (("MFU", peak_flops(device)), ("share of the measured matrix product", args.ceiling)):
            if peak:
                found[what] = {name: round(flops / s / peak, 4) for name, s in median.items()}
    return found


def matmul_ceiling(device: torch.device, n: int = 8192) -> float:
    """FLOP/s of the largest bf16 product that fits well: what no training step can exceed here."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(20):
        torch.cuda.synchronize(device)
        begun = time.perf_counter()
        a @ b
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
    return 2 * n**3 / statistics.median(times)


def profile(weights: Path, batch: int, context: int, args: argparse.Namespace) -> list[str]:
    """Where the time of one of our steps goes: the 15 costliest operations, in ms."""
    device = pick_device(args.device)
    step = our_step(weights, Drawn(batch, context), device, use_bf16(device, args.precision), args.activations)
    for _ in range(3):
        step()
    with torch.profiler.profile() as taken:
        step()
    gpu = device.type == "cuda"
    key = "self_device_time_total" if gpu else "self_cpu_time_total"
    events = sorted(taken.key_averages(), key=lambda event: -getattr(event, key))[:15]
    return [f"{getattr(event, key) / 1e3:9.1f} ms  {event.count:5} x  {event.key[:80]}" for event in events]


def data_wait(args: argparse.Namespace, steps: int = 8) -> dict[str, float]:
    """The share of a nano step that it waits for its batch, drawn from a real store of 0.2 GB."""
    device = pick_device(args.device)
    config = OptimConfig(lr=1e-4, min_lr=1e-4, warmup_steps=0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), 0.2)
        mixes = {(16, 1): [SingleConfig()], (1, 16): [VideoConfig(strides=[10]), PairsConfig(pairs=8)]}
        for (batch, pictures), sentences in mixes.items():
            stream = Stream([store], "train", StreamConfig(sentences, pictures), 0, batch)
            model = Transformer(ModelConfig("nano").resolve(CODES)).init_weights(0).to(device)
            train = LanguageTrainConfig(steps=10**6, batch_size=batch, optim=config)
            bf16 = use_bf16(device, args.precision)
            trainer = Trainer(LanguageLearner(model, stream, train, bf16=bf16), train, Path(folder), device, quiet=True)
            trainer.one_step(Window(1))
            window = Window(1)
            for _ in range(steps):
                trainer.one_step(window)
            found[f"{batch} x {stream.context}"] = window.read("steps")["data_wait"]
    return found


def head(benchmark: str, device: torch.device, bf16: bool, **versions: str) -> dict[str, Any]:
    """What every result begins with."""
    return {
        "benchmark": benchmark,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(device),
        "versions": {"lvmlite": lvmlite.__version__, **versions},
        "precision": "bf16 autocast" if bf16 else "fp32",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["nano", "100m"])
    parser.add_argument("--layers", type=int, default=None, help="fewer layers than the preset has")
    parser.add_argument("--shapes", nargs="+", default=[f"{b}x{t}" for b, t in SHAPES], help="sentences x positions")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--activations", default="keep")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training.json"))
    for hidden in ("--worker", "--weights"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--batch", "--context"):
        parser.add_argument(hidden, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    import transformers

    device = pick_device(args.device)
    args.ceiling = matmul_ceiling(device) if device.type == "cuda" else None
    result = head("training", device, use_bf16(device, args.precision), transformers=transformers.__version__)
    result["repeat"] = args.repeat
    if args.ceiling:
        result["bf16 matrix product, TFLOP/s"] = round(args.ceiling / 1e12, 1)
    result["data wait, share of a nano step"] = data_wait(args)
    for preset in args.presets:
        arch = ModelConfig(preset, n_layers=args.layers).resolve(CODES)
        shown = preset if args.layers is None else f"{preset}, {args.layers} layers"
        result[shown] = {}
        with tempfile.TemporaryDirectory() as folder:
            save_weights(folder, arch, Transformer(arch).init_weights(0).state_dict(), torch.float32)
            for batch, context in (map(int, shape.split("x")) for shape in args.shapes):
                found = compare(arch, Path(folder), batch, context, args)
                found["profile of a step, lvmlite"] = profile(Path(folder), batch, context, args)
                result[shown][f"{batch} x {context}"] = found
                print(shown, f"{batch} x {context}", json.dumps(found["lvmlite, times as fast"]), flush=True)
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
