"""The recipe: what a run is made of. Composes the configs of the rooms and holds no logic of its own.

In: a YAML file and dotted overrides, read by `lvmlite.recipe`. Out: `Recipe`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from lvmlite import recipe
from lvmlite.data.sentences.video import check_strides
from lvmlite.data.sources import source_configs
from lvmlite.data.stream import StreamConfig
from lvmlite.evaluate.protocols import protocol_configs, without_model
from lvmlite.images import Geometry
from lvmlite.model.architecture import ModelConfig
from lvmlite.model.lora import LoRAConfig
from lvmlite.recipe import Range, one_of
from lvmlite.tasks import TASK_CONFIGS
from lvmlite.tokenizers import tokenizer_configs
from lvmlite.tokenizers.vqgan import VQGANConfig
from lvmlite.train.language import LanguageTrainConfig
from lvmlite.train.tokenizer import TokenizerTrainConfig


@dataclass
class DataConfig:
    """What is read, and how it becomes pictures.

    Attributes:
        sources: each names its type under `source`.
        kinds: annotation name -> a task.
        only: source name -> the kinds drawn for it ([] draws photos only); default: all it can have.
        geometry: of every picture.
        workers: processes that draw; 0 draws in the main one. The bytes are the same.
        pixels: whether the pictures are kept. If not, they are encoded as soon as they are drawn, which needs a
            tokenizer that is there.
        stores: folders of token stores built elsewhere or imported, read together with this recipe's own; sources may
            be empty then.
        root: what ${data.root} stands for in paths of this recipe.
    """

    sources: list[Any] = field(default_factory=list, metadata=one_of("source", source_configs))
    kinds: dict[str, Any] = field(default_factory=dict, metadata=one_of("task", lambda: TASK_CONFIGS))
    only: dict[str, list[str]] = field(default_factory=dict)
    geometry: Geometry = field(default_factory=Geometry)
    workers: Annotated[int, Range(0)] = 0
    pixels: bool = True
    stores: list[str] = field(default_factory=list)
    root: str = ""

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names and not self.stores:
            raise ValueError("sources is empty: name at least one, e.g. [{source: photos, path: DIR}]")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"sources: the name '{twice[0]}' is used twice; give each source its own name")
        if unknown := [name for name in self.only if name not in names]:
            raise ValueError(f"only: no source is named '{unknown[0]}'; the sources are {', '.join(names) or 'none'}")
        for name, kinds in self.only.items():
            if missing := [kind for kind in kinds if kind not in self.kinds and kind != "image"]:
                raise ValueError(f"only.{name}: no kind is named '{missing[0]}'; the kinds are {', '.join(self.kinds)}")
        if "image" in self.kinds:
            raise ValueError("kinds: 'image' is the photo itself; name the annotation otherwise")


@dataclass
class TokenizerConfig:
    """The tokenizer: a net to train, or the folder of one that is there.

    Attributes:
        path: a tokenizer folder; nothing is trained then.
        init: a tokenizer folder whose net and weights training starts from; `net` does not count then.
        net, train: of the one to train.
        encode_batch: pictures encoded together; encode_bf16: under autocast, where the device has such products in
            hardware: faster, some codes differ. The store says how it was encoded.
    """

    path: str | None = None
    init: str | None = None
    net: Any = field(default_factory=VQGANConfig, metadata=one_of("tokenizer", tokenizer_configs))
    train: TokenizerTrainConfig = field(default_factory=TokenizerTrainConfig)
    encode_batch: Annotated[int, Range(1)] = 64
    encode_bf16: bool = False

    def __post_init__(self) -> None:
        pieces = (self.train.micro_batch_size or self.train.batch_size) < self.train.batch_size
        if pieces and getattr(self.net.quantizer, "entropy_weight", 0.0) > 0:
            raise ValueError(
                f"train.micro_batch_size: the entropy of the codes that {self.net.quantizer.quantizer} is trained with "
                "is of a whole batch; leave it out, or set net.quantizer.entropy_weight=0"
            )
        if self.init is None:
            if self.train.train_only == "decoder" and self.path is None:
                raise ValueError("train_only: decoder needs a tokenizer to start from: name its folder in init")
            return
        if self.path is not None:
            raise ValueError("path names a tokenizer to use as it is, init one to go on training: give one of them")
        if self.train.start_codes_at:
            raise ValueError("start_codes_at places the codes of a fresh net; those of init have their places")


@dataclass
class StageConfig:
    """One stage of training the decoder; it starts from the weights of the stage before.

    Attributes:
        name: its folder under `stages/`.
        data: the mix and the context; train: steps, batch, optimiser.
        init_from: a model folder whose weights it starts from instead: ours, or any of Hugging Face's
            LlamaForCausalLM with `codebook_size` in its config.json.
        lora: train thin adapters beside the frozen weights; they are merged into them when the stage is over.
        carry_optimizer: go on with AdamW's moments of the stage before.
        validation_batches: held-out batches of `val_loss`.
    """

    name: str
    data: StreamConfig
    train: LanguageTrainConfig = field(default_factory=LanguageTrainConfig)
    init_from: str | None = None
    lora: LoRAConfig | None = None
    carry_optimizer: bool = False
    validation_batches: Annotated[int, Range(1)] = 4


@dataclass
class Recipe:
    """Everything of a run, in the order it happens.

    Attributes:
        name: in reports; out: the run folder.
        seed: of everything drawn; device: "auto", "cpu", "cuda", "mps".
        model: of the decoder; where the first stage has `init_from`, what is left out here is as in that folder.
        stages: of the model; without any the run ends with the tokenizer and its tokens, and evaluates those.
        evaluate: protocols; empty writes a report of the training alone.
    """

    name: str
    out: str
    data: DataConfig
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    stages: list[StageConfig] = field(default_factory=list)
    evaluate: list[Any] = field(default_factory=list, metadata=one_of("protocol", protocol_configs))
    seed: Annotated[int, Range(0)] = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError("stages: two stages have the same name")
        data, trains = self.data, self.tokenizer.path is None
        if trains and data.sources and not data.pixels:
            raise ValueError("data.pixels is false, but a tokenizer is trained from pixels: name one in tokenizer.path")
        if trains and data.sources and data.stores:
            raise ValueError("data.stores are of a tokenizer that is there: name its folder in tokenizer.path")
        if self.evaluate and not (data.sources and data.pixels):
            why = "data.pixels is false" if data.sources else "data.sources is empty"
            raise ValueError(f"evaluate reads pixels, but {why}; leave evaluate empty")
        if not self.stages and (wrong := [p.protocol for p in self.evaluate if p.protocol not in without_model()]):
            raise ValueError(
                f"evaluate: '{wrong[0]}' needs a model, but stages is empty; a tokenizer is measured by "
                f"{', '.join(without_model())}"
            )
        self.check_sentences()
        self.check_starts()
        if trains and not self.tokenizer.init and data.sources:
            self.check_contexts(self.tokens_per_picture, self.model.max_seq_len)

    def check_contexts(self, tokens_per_picture: int, max_seq_len: int) -> None:
        """Raises ValueError, one line, for a stage whose context is longer than the model's."""
        for stage in self.stages:
            if (need := stage.data.pictures * tokens_per_picture) > max_seq_len:
                raise ValueError(
                    f"stage '{stage.name}': {stage.data.pictures} pictures are {need} positions, "
                    f"model.max_seq_len is {max_seq_len}"
                )

    def check_starts(self) -> None:
        """Raises ValueError, one line, for a stage whose weights or moments would come from nowhere."""
        tokenizer = self.tokenizer
        same_codes = tokenizer.path or self.data.stores or (tokenizer.init and tokenizer.train.train_only == "decoder")
        for before, stage in zip([None, *self.stages], self.stages):
            where = f"stage '{stage.name}'"
            if stage.init_from is not None and not same_codes:
                raise ValueError(
                    f"{where}: init_from names a model, which reads the codes of its own tokenizer only: "
                    "name that one in tokenizer.path"
                )
            if stage.lora is not None and before is None and stage.init_from is None:
                raise ValueError(f"{where}: lora adapts trained weights: name a model folder in init_from")
            if stage.carry_optimizer and (before is None or stage.init_from is not None):
                raise ValueError(f"{where}: carry_optimizer goes on from a stage before, and there is none")
            if stage.carry_optimizer and (stage.lora is not None or (before and before.lora is not None)):
                raise ValueError(f"{where}: carry_optimizer needs the same parameters before and after, without lora")

    def check_sentences(self) -> None:
        """Raises ValueError for a sentence that names what the data does not have, before anything is drawn.

        Stores built elsewhere have sources and kinds of their own: then the stream checks, when it opens them.
        """
        if self.data.stores:
            return
        sources = [source.name for source in self.data.sources]
        kinds = ["image", *self.data.kinds]
        steps = {source.name: getattr(source, "frame_step", None) for source in self.data.sources}
        mixes = {f"stage '{stage.name}'": stage.data.sentences for stage in self.stages}
        for where, entries in {"tokenizer.train.pictures": self.tokenizer.train.pictures, **mixes}.items():
            for entry in entries:
                for what, there in (("source", sources), ("kind", kinds)):
                    for name in getattr(entry, f"{what}s", None) or []:
                        if name not in there:
                            raise ValueError(
                                f"{where}: sentence '{entry.sentence}' names a {what} '{name}' that data.{what}s does "
                                f"not have; there are {', '.join(there)}"
                            )
                if hasattr(entry, "strides"):
                    read = sources if entry.sources is None else entry.sources
                    check_strides(entry, {name: step for name in read if (step := steps[name]) is not None})

    @property
    def tokens_per_picture(self) -> int:
        """S of the tokenizer to train from scratch."""
        return int(self.data.geometry.size // self.tokenizer.net.f) ** 2


def recipe_path(name: str) -> Path:
    """A recipe by path, or one of those that come with lvmlite by name: "quickstart".

    Raises:
        ValueError: neither.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).parent
    folders = [package.parent / "recipes", package / "recipes"]
    for folder in folders:
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = sorted({str(f.relative_to(d).with_suffix("")) for d in folders if d.is_dir() for f in d.rglob("*.yaml")})
    raise ValueError(f"no recipe '{name}': neither a file nor one that comes with lvmlite ({', '.join(known)})")


def load_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe. Raises RecipeError, one line, for anything wrong with it."""
    return recipe.load(recipe_path(os.fspath(path)), Recipe, overrides)
