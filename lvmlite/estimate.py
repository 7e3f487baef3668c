"""What a run will take, before it begins: every kind of step is tried for a moment on this machine.

In: a recipe and a device. Out: a line a step: how much work, how long, how much disk. Budgets are steps, so an
estimate never changes what is computed.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lvmlite.data.pictures import available_kinds, draw_sample
from lvmlite.data.sources.base import Reject, Source
from lvmlite.data.stream import Batch
from lvmlite.devices import use_bf16
from lvmlite.images import Unreadable
from lvmlite.model.architecture import Architecture
from lvmlite.model.files import shapes
from lvmlite.model.lora import Adapted
from lvmlite.tasks import build_task
from lvmlite.tokenizers import load_tokenizer
from lvmlite.tokenizers.base import encode_pictures, token_dtype
from lvmlite.train.language import LanguageLearner
from lvmlite.train.log import clock
from lvmlite.train.loop import Learner, TrainConfig, Trainer
from lvmlite.train.losses import open_perceptual
from lvmlite.train.meter import Window, held_gb
from lvmlite.train.parallel import place
from lvmlite.train.tokenizer import TokenizerLearner

if TYPE_CHECKING:
    from lvmlite.schema import StageConfig
    from lvmlite.steps import Work

TRIED = 32  # samples of a source that are drawn to time it


@dataclass
class Estimate:
    """One step: `work` in words, seconds, bytes it leaves on disk, and the most GB held while it was tried."""

    step: str
    work: str
    seconds: float
    disk: float = 0.0
    memory: float = 0.0


def median_seconds(work: Callable[[], Any], device: torch.device, n: int = 3) -> float:
    """The median time of a few calls, after one that warms up."""
    times = []
    for _ in range(n + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
    return sorted(times[1:])[n // 2]


def estimate(work: Work, todo: set[str]) -> list[Estimate]:
    """An estimate of every costly step among those to do, by name; all ranks must call."""
    config, device = work.config, work.device
    found: list[Estimate] = []

    def add(step: str, what: str, seconds: float, disk: float = 0.0) -> None:
        found.append(Estimate(step, what, seconds, disk, held_gb(device)))

    pictures, seconds = drawing(work) if todo & {"pixels", "tokens"} else (0, 0.0)
    size = config.data.geometry.size
    if "pixels" in todo:
        add("pixels", f"about {pictures:,} pictures", seconds, pictures * 3.0 * size**2)
    if "tokenizer" in todo:
        train = config.tokenizer.train
        each = tokenizer_step(work)
        what = f"{train.steps:,} steps of {train.batch_size} pictures"
        add("tokenizer", what, train.steps * each)
    tokenizer: Any = None
    if not config.data.sources:
        store = work.other_stores()[0]
        n_tokens, codebook_size = store.n_tokens, store.info.codebook_size or 0
    else:
        path = config.tokenizer.path
        tokenizer = load_tokenizer(path, device) if path else work.starting_tokenizer().to(device)
        n_tokens, codebook_size = tokenizer.n_tokens, tokenizer.codebook_size
    if "tokens" in todo:
        batch, blank = config.tokenizer.encode_batch, np.zeros((config.tokenizer.encode_batch, size, size, 3), np.uint8)
        bf16 = config.tokenizer.encode_bf16 and use_bf16(device)
        each = median_seconds(lambda: encode_pictures(tokenizer, blank, batch, bf16), device) / batch
        tokens, spent = pictures * n_tokens, pictures * each
        if not config.data.pixels:  # workers draw while this process encodes
            spent = max(spent, seconds / config.data.workers) if config.data.workers else spent + seconds
        disk = tokens * np.dtype(token_dtype(codebook_size)).itemsize
        add("tokens", f"about {tokens:,} tokens", spent, disk)
    for stage in config.stages:
        if f"stage {stage.name}" in todo:
            context = stage.data.pictures * n_tokens
            each = language_step(work, stage, context, codebook_size)
            total = stage.train.steps * stage.train.batch_size * context
            what = f"{stage.train.steps:,} steps of {stage.train.batch_size} x {context} = {total:,} tokens"
            arch, kept = work.stages.architecture(codebook_size), stage.train.keep_checkpoints
            left = (4.0 if stage.lora else 12.0) * arch.n_parameters * kept  # weights and two moments in float32
            add(f"stage {stage.name}", what, stage.train.steps * each, left)
    return found


def drawing(work: Work) -> tuple[int, float]:
    """Pictures of all sources, and seconds to draw them, from a few samples of each."""
    pictures, seconds = 0, 0.0
    for source, config in zip(work.open_sources(), work.config.data.sources):
        n, drawn, spent = try_source(source, config, work)
        pictures += round(n * drawn)
        seconds += n * spent
    return pictures, seconds


def try_source(source: Source, config: Any, work: Work) -> tuple[int, float, float]:
    """Samples in a source, pictures per sample, and seconds per sample."""
    data = work.config.data
    only = data.only.get(source.name)
    tasks = {kind: build_task(task) for kind, task in data.kinds.items() if only is None or kind in only}
    parts = source.parts()
    n = sum(len(part.items) for part in parts) * getattr(config, "crops", 1)
    n = min(n, getattr(config, "max_samples", None) or n)
    next(iter(source.samples(parts[0])), None)  # warms up
    begun, drawn, tried = time.perf_counter(), 0, 0
    for sample in itertools.islice((s for part in parts for s in source.samples(part)), TRIED):
        tried += 1
        if isinstance(sample, Reject) or len(sample.frames) == 0:
            continue
        try:
            mine = available_kinds(sample.frames[0], tasks)
            drawn += sum(len(rows) for rows in draw_sample(sample, mine, data.geometry, 0).values())
        except Unreadable:
            continue
    spent = time.perf_counter() - begun
    return n, drawn / max(1, tried), spent / max(1, tried)


class Blank:
    """A stream of black pictures, for timing."""

    def __init__(self, batch_size: int, size: int):
        self.batch_size, self.size = batch_size, size

    def batch(self, i: int, rank: int = 0, world_size: int = 1) -> np.ndarray:
        return np.zeros((self.batch_size // world_size, self.size, self.size, 3), np.uint8)


def tokenizer_step(work: Work) -> float:
    """Seconds of the last step of the tokenizer's training, with all the losses it has by then."""
    train, device, seed = work.config.tokenizer.train, work.device, work.config.seed
    blank: Any = Blank(train.batch_size, work.config.data.geometry.size)
    learner = TokenizerLearner(
        work.starting_tokenizer().to(device),  # type: ignore[arg-type]
        blank,
        train,
        seed,
        bf16=use_bf16(device, train.precision),
        perceptual=open_perceptual(train.losses, device),
        placed=True,
    )
    return last_step(learner, train, work)


class BlankSentences:
    """A stream of one code over and over, for timing; every slot is one sentence."""

    padding, n_pictures = 0.0, 0.0

    def __init__(self, batch_size: int, context: int):
        self.batch_size, self.context = batch_size, context

    @property
    def lengths(self) -> dict[int, float]:
        return {self.context: self.batch_size}

    def n_targets(self, i: int) -> int:
        return self.batch_size * self.context

    def batch(self, i: int, rank: int = 0, world_size: int = 1) -> Batch:
        zeros = np.zeros((self.batch_size // world_size, self.context), np.int64)
        return Batch(zeros, zeros, zeros.astype(np.int32), zeros[:, 0].astype(np.int32), packed=False)


class RandomWeights:
    """Tensors of no model in particular, for timing; zeros would be multiplied faster on a GPU."""

    def __init__(self, arch: Architecture):
        self.shapes = shapes(arch)
        self.generator = torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def read(self, name: str, offset: Any = None, size: Any = None) -> torch.Tensor:
        return torch.empty(self.shapes[name] if size is None else size).normal_(std=0.02, generator=self.generator)


def language_step(work: Work, stage: StageConfig, context: int, codebook_size: int) -> float:
    """Seconds of an optimiser step of a stage, on this rank's share of a batch, as it will be trained."""
    train, bf16 = stage.train, use_bf16(work.device, stage.train.precision)
    arch = work.stages.architecture(codebook_size)
    weights: Any = RandomWeights(arch)
    if stage.lora is not None:
        weights = Adapted(weights, stage.lora, seed=0)
    blank: Any = BlankSentences(train.batch_size, context)
    gc.collect()  # what was tried before may be held by a cycle
    model = place(arch, train.parallel, work.device, weights, bf16, stage.lora)
    return last_step(LanguageLearner(model, blank, train, bf16=bf16), train, work)


def last_step(learner: Learner, train: TrainConfig, work: Work) -> float:
    """Seconds of the last step of a training, when all of its losses are there."""
    trainer, window = Trainer(learner, train, work.out, work.device, quiet=True), Window(1)

    def step() -> None:
        trainer.step = train.steps - 1
        trainer.one_step(window)

    return median_seconds(step, work.device)


def estimate_lines(steps: list[Estimate]) -> list[str]:
    """The estimate as text, a line a step."""
    if not steps:
        return ["nothing left to do but what is quick"]
    lines = [f"  {s.step:<18} {s.work:<52} {clock(s.seconds):>8}  {amount(s.disk)}".rstrip() for s in steps]
    total = sum(s.seconds for s in steps)
    disk = amount(sum(s.disk for s in steps))
    memory = f"memory {max(s.memory for s in steps):.1f} GB"
    return [
        "estimate, from a short trial on this machine; evaluation and report come on top:",
        *lines,
        f"  {'in all':<18} {memory:<52} {clock(total):>8}  {disk}".rstrip(),
    ]


def amount(n_bytes: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return ""
