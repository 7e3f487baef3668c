"""What the steps of a run do: draw, train, encode, train, export, evaluate, report.

In: a `Recipe` and the run folder with what earlier steps left. Out: the folders of each step, and a line about it.
`pipeline.py` decides which of them is called.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvmlite import __version__, distributed, recipe
from lvmlite.data.build import IMAGE, build_pixels, build_tokens, encode_sources, read_rejects, stable_rng
from lvmlite.data.mix import readable
from lvmlite.data.sources import build_source
from lvmlite.data.sources.base import Source
from lvmlite.data.store import Store
from lvmlite.data.stream import PixelStream, Stream, check_stores
from lvmlite.devices import peak_memory_gb, use_bf16
from lvmlite.evaluate.bench import Bench, TokenizerBench
from lvmlite.evaluate.protocols import protocol_configs
from lvmlite.evaluate.results import Result
from lvmlite.evaluate.runner import evaluate
from lvmlite.generate.folder import export_model
from lvmlite.generate.lvm import LVM
from lvmlite.report import hero, write_report
from lvmlite.schema import Recipe, StageConfig
from lvmlite.stages import Stages, Vocabulary, carry_moments, codes_by_kind, model_info
from lvmlite.tasks import build_task
from lvmlite.tokenizers import build_tokenizer, load_tokenizer
from lvmlite.tokenizers.base import Tokenizer, save_tokenizer
from lvmlite.train.language import LanguageLearner
from lvmlite.train.log import progress
from lvmlite.train.loop import Trainer
from lvmlite.train.losses import open_perceptual
from lvmlite.train.parallel import place
from lvmlite.train.tokenizer import TokenizerLearner

PROMPTS_PER_KIND = 4


class Work:
    """The work of every step.

    Args:
        config: the recipe; device: this rank's; quiet: no progress.

    Attributes:
        keys: folder -> fingerprint of the step that trains into it; a checkpoint of another is refused.
    """

    def __init__(self, config: Recipe, device: torch.device, quiet: bool = False):
        self.config, self.device, self.quiet = config, device, quiet
        self.out = Path(config.out)
        self.tasks = {kind: build_task(task) for kind, task in config.data.kinds.items()}
        self.sources: list[Source] = []
        self.stages = Stages(config)
        self.keys: dict[Path, str] = {}

    def bar(self, title: str, total: int, unit: str) -> AbstractContextManager[Any]:
        return progress(title, total, unit, self.quiet)

    def open_sources(self) -> list[Source]:
        if not self.sources:
            self.sources = [build_source(config, self.config.seed) for config in self.config.data.sources]
        return self.sources

    def draw_pixels(self) -> str:
        data = self.config.data
        with self.bar("drawing pictures", 0, "pictures") as bar:
            store = build_pixels(
                self.open_sources(),
                self.tasks,
                recipe.to_dict(data)["kinds"],
                data.geometry,
                self.out / "pixels",
                only=data.only,
                seed=self.config.seed,
                workers=data.workers,
                progress=lambda n, total, what: bar.update(n, what, total),
            )
        return self.drawn(store)

    def drawn(self, store: Store) -> str:
        """A line about what a store holds and what was left out of it."""
        n, frames = (sum(getattr(shard, of) for shard in store.info.shards) for of in ("n_pictures", "n_frames"))
        rejects = len(read_rejects(store.path))
        rejected = f", {rejects} inputs rejected (see {store.path.name}/rejects.jsonl)" if rejects else ""
        return f"{n} pictures of {frames} frames from {len(self.config.data.sources)} sources{rejected}"

    def starting_tokenizer(self) -> Tokenizer:
        """What the tokenizer's training starts from: a fresh net, or the one of `tokenizer.init`.

        Raises:
            ValueError: `init` is no tokenizer folder, or of another picture size.
        """
        config, size = self.config.tokenizer, self.config.data.geometry.size
        if config.init is None:
            return build_tokenizer(config.net, size, self.config.seed)
        tokenizer = load_tokenizer(config.init)
        if tokenizer.image_size != size:
            raise ValueError(
                f"tokenizer.init: {config.init} takes pictures of {tokenizer.image_size} px, "
                f"data.geometry.size is {size}"
            )
        return tokenizer

    def train_tokenizer(self) -> str:
        config, seed = self.config.tokenizer, self.config.seed
        store = Store.open(self.out / "pixels")
        tokenizer = self.starting_tokenizer().to(self.device)
        mix, batch = config.train.pictures, config.train.batch_size
        held = readable(mix, [store], "val")
        learner = TokenizerLearner(
            tokenizer,  # type: ignore[arg-type]
            PixelStream([store], "train", mix, seed, batch),
            config.train,
            seed,
            PixelStream([store], "val", held, seed, batch) if held else None,
            bf16=use_bf16(self.device, config.train.precision),
            perceptual=open_perceptual(config.train.losses, self.device),
            placed=config.init is not None,
        )
        folder = self.out / "tokenizer"
        self.trainer(learner, config.train, folder, "tokenizer").run()
        if distributed.is_main():
            save_tokenizer(learner.trained, folder / "final")
        last = learner.validate()
        if not last:
            return "no held-out pictures to measure it on"
        return f"PSNR {last['val_psnr']:.1f} dB, {last['val_usage']:.0%} of {tokenizer.codebook_size} codes used"

    def trainer(self, learner: Any, train: Any, folder: Path, title: str) -> Trainer:
        key = self.keys[folder]
        return Trainer(learner, train, folder, self.device, title=title, fingerprint=key, quiet=self.quiet)

    @cached_property
    def given(self) -> Tokenizer | None:
        """The tokenizer of `tokenizer.path`, on the CPU."""
        path = self.config.tokenizer.path
        return load_tokenizer(path) if path is not None else None

    def tokenizer(self) -> Tokenizer:
        path = self.config.tokenizer.path
        return load_tokenizer(path or self.out / "tokenizer" / "final", self.device)

    def encode(self) -> str:
        config = self.config.tokenizer
        with self.bar("encoding pictures", 0, "pictures") as bar:
            store = build_tokens(
                Store.open(self.out / "pixels"),
                self.tokenizer(),
                self.out / "tokens",
                batch=config.encode_batch,
                bf16=config.encode_bf16 and use_bf16(self.device),
                progress=lambda n, total, what: bar.update(n, what, total),
            )
        return f"{sum(shard.n_pictures for shard in store.info.shards) * store.n_tokens:,} tokens"

    def draw_and_encode(self) -> str:
        """Sources to tokens; no pixels are kept."""
        config, data = self.config.tokenizer, self.config.data
        with self.bar("drawing and encoding", 0, "pictures") as bar:
            store = encode_sources(
                self.open_sources(),
                self.tasks,
                recipe.to_dict(data)["kinds"],
                data.geometry,
                self.tokenizer(),
                self.out / "tokens",
                only=data.only,
                seed=self.config.seed,
                workers=data.workers,
                batch=config.encode_batch,
                bf16=config.encode_bf16 and use_bf16(self.device),
                progress=lambda n, total, what: bar.update(n, what, total),
            )
        return f"{sum(s.n_pictures for s in store.info.shards) * store.n_tokens:,} tokens: {self.drawn(store)}"

    def other_stores(self) -> list[Store]:
        """The stores of tokens that were built elsewhere.

        Raises:
            ValueError: one is not a store of tokens, or they cannot be mixed, or not with the tokenizer of the recipe.
        """
        stores = [Store.open(path) for path in self.config.data.stores]
        if stores:
            check_stores(stores, "tokens")
            if self.given is not None:
                stores[0].check_tokenizer(self.given.code_fingerprint)
            size, other = self.config.data.geometry.size, stores[0].info.geometry["size"]
            if self.config.data.sources and size != other:
                raise ValueError(f"{stores[0].path}: holds pictures of {other} px, data.geometry.size is {size}")
        return stores

    def token_stores(self) -> list[Store]:
        """The recipe's own store of tokens, if it has sources, and the others it names."""
        own = [Store.open(self.out / "tokens")] if self.config.data.sources else []
        return [*own, *self.other_stores()]

    # --- the stages

    def vocabulary(self) -> Vocabulary | None:
        """What the stages' sentences are made of, as far as it is known before any work."""
        config = self.config.tokenizer
        if self.config.data.stores:
            store = Store.open(self.config.data.stores[0])
            return Vocabulary(store.info.codebook_size or 0, store.n_tokens, store.info.code_fingerprint)
        if self.given is None and config.init is None:
            return None
        found = self.given or self.starting_tokenizer()
        stays = self.given is not None or config.train.train_only == "decoder"
        return Vocabulary(found.codebook_size, found.n_tokens, found.code_fingerprint if stays else None)

    def stage_work(self, stage: StageConfig, before: StageConfig | None) -> Callable[[], str]:
        return lambda: self.train_stage(stage, before)

    def train_stage(self, stage: StageConfig, before: StageConfig | None) -> str:
        stores, seed, bf16 = self.token_stores(), self.config.seed, use_bf16(self.device, stage.train.precision)
        arch, folder = self.stages.architecture(stores[0].info.codebook_size or 0), self.stages.folder(stage)
        own = self.stages.resumed(stage, self.keys[folder])
        start = own or self.stages.start(stage, before)
        batch = stage.train.batch_size
        held = readable(stage.data.sentences, stores, "val")
        validation = {"val": Stream(stores, "val", replace(stage.data, sentences=held), seed, batch)} if held else {}
        gc.collect()  # a model of the stage before may be held by a cycle
        learner = LanguageLearner(
            place(arch, stage.train.parallel, self.device, start, bf16, stage.lora),
            Stream(stores, "train", stage.data, seed, batch),
            stage.train,
            validation,
            stage.validation_batches,
            bf16,
        )
        if stage.carry_optimizer and own is None:
            assert before is not None
            carry_moments(learner, self.stages.checkpoint(before))
        self.trainer(learner, stage.train, folder, f"stage {stage.name}").run()
        last = learner.validate().get("val_loss", float("nan"))
        chance = float(np.log(arch.codebook_size))
        return f"{stage.train.steps * learner.size():,} tokens, validation loss {last:.3f} (ln K = {chance:.2f})"

    def export(self) -> str:
        """The model folder, tensor by tensor from the last checkpoint, which all ranks check; the first one writes."""
        tensors = self.stages.trained(self.config.stages[-1])
        if not distributed.is_main():
            return ""
        stores, out = self.token_stores(), self.out / "model"
        arch, tokenizer = self.stages.architecture(stores[0].info.codebook_size or 0), self.tokenizer()
        info, codes = model_info(self.config, stores), codes_by_kind(stores)
        export_model(out, arch, tensors, tokenizer, info, codes, *self.prompts())
        return f"{arch.n_parameters / 1e6:.1f} M parameters in {out}"

    def prompts(self) -> tuple[dict[str, list[tuple[np.ndarray, np.ndarray]]], dict[str, str]]:
        """A few seeded training pairs of each kind, from generated pictures only: private photos stay private."""
        if not (self.config.data.sources and self.config.data.pixels):
            return {}, {}
        pixels = Store.open(self.out / "pixels")
        free = [source.name for source in self.config.data.sources if source.source == "world"]
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        licences: dict[str, str] = {}
        for kind in self.tasks:
            shards = [shard for shard in pixels.select("train", free) if kind in shard.info.columns]
            if not shards:
                continue
            shard = shards[0]
            rows = stable_rng(self.config.seed, "prompts", kind).integers(shard.info.n_frames, size=PROMPTS_PER_KIND)
            image, annotation = shard.column(IMAGE), shard.column(kind)
            found[kind] = [(np.array(image[r]), np.array(annotation[r])) for r in rows]
            licences[kind] = pixels.info.sources[shard.info.source]["licence"]
        return found, licences

    def bench(self) -> TokenizerBench:
        """What the run is measured with: its model, or its tokenizer if it has no stages."""
        sources = {source.name: source for source in self.open_sources()}
        tokens, pixels = Store.open(self.out / "tokens"), Store.open(self.out / "pixels")
        seed = self.config.seed
        if self.config.stages:
            return Bench(LVM.load(self.out / "model", str(self.device)), tokens, pixels, sources, self.out, seed)
        geometry = self.config.data.geometry
        return TokenizerBench(self.tokenizer(), self.tasks, geometry, pixels, sources, self.out, seed, tokens)

    def evaluate(self) -> str:
        about = {
            "recipe": self.config.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": __version__,
            "peak memory": f"{peak_memory_gb():.2f} GB",
        }
        with self.bar("evaluating", 0, "steps") as bar:
            results = evaluate(
                self.bench(),
                self.config.evaluate,
                self.out,
                about=about,
                progress=lambda what, n, total: bar.update(n, what),
            )
        return ", ".join(f"{result.protocol} {result.seconds:.0f} s" for result in results)

    def report(self) -> str:
        logs = {f"stage {s.name}": self.out / "stages" / s.name / "log.jsonl" for s in self.config.stages}
        if self.config.tokenizer.path is None:
            logs = {"tokenizer": self.out / "tokenizer" / "log.jsonl", **logs}
        page = write_report(self.out, title=self.config.name, logs=logs)
        if any(protocol.protocol == "gallery" for protocol in self.config.evaluate):
            hero(self.out)
        return str(page)


def evaluate_model(model: Path, protocols: list[str], run: Path, out: Path, device: str = "auto") -> list[Result]:
    """Run protocols with their defaults on a model and the stores of a run; writes `out/results.json`.

    Raises:
        ValueError: no such protocol, model or run.
    """
    table = protocol_configs()
    if unknown := [name for name in protocols if name not in table]:
        raise ValueError(f"no protocol '{unknown[0]}'; the protocols are {', '.join(table)}")
    if not (run / "recipe.yaml").exists():
        raise ValueError(f"{run}: not a run folder (no recipe.yaml); name one with --data")
    config = recipe.load(run / "recipe.yaml", Recipe)
    sources = {c.name: build_source(c, config.seed) for c in config.data.sources}
    lvm = LVM.load(model, device)
    bench = Bench(lvm, Store.open(run / "tokens"), Store.open(run / "pixels"), sources, out, config.seed)
    with progress("evaluating", 0, "steps") as bar:
        configs = [table[name]() for name in protocols]
        return evaluate(bench, configs, out, progress=lambda what, n, _: bar.update(n, what))


def evaluate_tokenizer(
    tokenizer: Tokenizer, config: Recipe, protocols: list[Any], out: Path, split: str = "test", quiet: bool = False
) -> list[Result]:
    """Run protocols that need no model on a tokenizer and the pixels of a recipe's run; writes `out/results.json`.

    Args:
        protocols: configs of PROTOCOLS.
        split: whose pictures are measured.

    Raises:
        ValueError: the pixels are not drawn, are of another size, or lack what a config names.
    """
    sources = {c.name: build_source(c, config.seed) for c in config.data.sources}
    tasks = {kind: build_task(task) for kind, task in config.data.kinds.items()}
    pixels = Store.open(Path(config.out) / "pixels")
    bench = TokenizerBench(tokenizer, tasks, config.data.geometry, pixels, sources, out, config.seed, split=split)
    about = {"recipe": config.name, "split": split, "version": __version__}
    with progress("evaluating", 0, "steps", quiet) as bar:
        return evaluate(bench, protocols, out, about=about, progress=lambda what, n, _: bar.update(n, what))
