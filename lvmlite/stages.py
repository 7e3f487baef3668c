"""What a stage of training starts from, and what it leaves: weights read piece by piece, so that no rank holds a model.

In: the recipe's model, a model folder (ours, or any of Hugging Face's LlamaForCausalLM), the checkpoints of the stage
before. Out: the decoder's shape; its weights, with adapters or merged with them; moments of AdamW; what the model's
folder says. `steps.py` puts them together.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lvmlite import distributed, recipe
from lvmlite.data.store import Store
from lvmlite.generate.folder import INFO
from lvmlite.model.architecture import Architecture, ModelConfig
from lvmlite.model.files import Tensors, Weights, read_json
from lvmlite.model.lora import Adapted, Merged
from lvmlite.train import checkpoint
from lvmlite.train.language import LanguageLearner
from lvmlite.train.loop import check_split
from lvmlite.train.parallel import check_parallel
from lvmlite.train.pieces import Pieces

if TYPE_CHECKING:
    from lvmlite.schema import Recipe, StageConfig

SHAPE = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads")  # what weights decide
FREE = ("rope_theta", "rope_factor", "norm_eps")  # what no weight shows
MODEL = "module/model."  # before the name of a weight in a checkpoint


class Vocabulary(NamedTuple):
    """Of a tokenizer: how many codes it has, how many make a picture, and their fingerprint, None if yet to come."""

    codebook_size: int
    tokens_per_picture: int
    code_fingerprint: str | None


class Stages:
    """The stages of a recipe, and what they start from.

    Args:
        config: the recipe.
    """

    def __init__(self, config: Recipe):
        self.config = config
        self.folders: dict[str, Weights] = {}

    def opened(self, folder: str) -> Weights:
        """A folder of `init_from`. Raises ValueError if it is none."""
        if folder not in self.folders:
            self.folders[folder] = Weights(folder)
        return self.folders[folder]

    def architecture(self, codebook_size: int) -> Architecture:
        start = self.config.stages[0].init_from
        return architecture(self.config.model, codebook_size, self.opened(start) if start else None)

    def check(self, vocabulary: Vocabulary | None) -> None:
        """Before any work: whether every stage can start from what it names, its context fits the model, and its batch
        the ranks.

        Args:
            vocabulary: None where the tokenizer is yet to be trained; then the recipe has checked what it can.

        Raises:
            ValueError: one does not, in one line.
        """
        if not self.config.stages:
            return
        arch, ranks = self.architecture(vocabulary.codebook_size if vocabulary else 2), distributed.world_size()
        for stage in self.config.stages:
            check_parallel(arch, stage.train.parallel, ranks, stage.lora is not None)
            check_split(stage.train, ranks // stage.train.parallel.tensor)
            if stage.data.eos and arch.eos >= arch.vocab_size:
                raise ValueError(
                    f"stage '{stage.name}': the model's vocabulary of {arch.vocab_size} has no EOS; set data.eos=false"
                )
            if stage.init_from and Path(stage.init_from).resolve() == (Path(self.config.out) / "model").resolve():
                raise ValueError(
                    f"stage '{stage.name}': init_from is the model that this run would replace; choose another out"
                )
            if vocabulary is not None and stage.init_from is not None:
                first = stage is self.config.stages[0]
                check_start(self.opened(stage.init_from), arch, vocabulary, first)
        if vocabulary is not None:
            self.config.check_contexts(vocabulary.tokens_per_picture, arch.max_seq_len)

    def folder(self, stage: StageConfig) -> Path:
        return Path(self.config.out) / "stages" / stage.name

    def checkpoint(self, stage: StageConfig) -> Pieces:
        """The tensors of a stage that was trained to its end; all ranks must call, and check them together.

        Raises:
            ValueError: its checkpoint is gone.
        """
        folder = self.folder(stage)
        found, warnings = checkpoint.latest(folder / "checkpoints")
        if found is None or found.step < stage.train.steps:
            mark = Path(self.config.out) / "steps" / f"stage-{stage.name}.json"
            why = warnings[0] if warnings else f"{folder}: its last checkpoint is gone"
            raise ValueError(f"{why}; delete {mark} to train on from what is left")
        return found.tensors

    def resumed(self, stage: StageConfig, fingerprint: str) -> Pieces | None:
        """A stage's own weights, if it was begun by this recipe: then what it started from is not asked for."""
        folder = self.folder(stage) / "checkpoints"
        found, _ = checkpoint.latest(folder) if checkpoint.steps(folder) else (None, [])
        mine = found is not None and found.scalars.get("fingerprint") == fingerprint
        return found.tensors.under(MODEL) if found is not None and mine else None

    def trained(self, stage: StageConfig) -> Pieces | Merged:
        """The decoder's weights after a stage, by Hugging Face's names, adapters merged into them."""
        weights = self.checkpoint(stage).under(MODEL)
        return Merged(weights, stage.lora) if stage.lora else weights

    def start(self, stage: StageConfig, before: StageConfig | None) -> int | Tensors:
        """What a stage's weights are before its first step: a seed, or tensors."""
        found: int | Tensors = self.config.seed
        if stage.init_from is not None:
            found = self.opened(stage.init_from)
        elif before is not None:
            found = self.trained(before)
        if stage.lora is not None:
            assert not isinstance(found, int)
            found = Adapted(found, stage.lora, self.config.seed)
        return found


def architecture(config: ModelConfig, codebook_size: int, start: Weights | None = None) -> Architecture:
    """The decoder of a recipe for a tokenizer of `codebook_size` codes.

    With `start`, the folder whose weights the first stage starts from, the shape and the vocabulary are the folder's:
    what the recipe gives of them must be equal. The longer of both contexts holds; rotary positions are the recipe's
    if it sets `rope_theta` or `rope_scaling`, else the folder's.

    Raises:
        ValueError: the recipe's numbers do not fit each other, or not the folder; in one line.
    """
    if start is None:
        return config.resolve(codebook_size)
    default, found = ModelConfig(), start.arch
    if config.preset != default.preset:
        given = {name: getattr(config.resolve(codebook_size), name) for name in SHAPE}
    else:
        given = {name: value for name in SHAPE if (value := getattr(config, name)) is not None}
    check_shape(start, given, "the recipe's model")
    asked = replace(config, **{name: getattr(found, name) for name in SHAPE}).resolve(codebook_size)
    theta, factor = found.rope_theta, found.rope_factor
    if config.rope_scaling is not None or config.rope_theta != default.rope_theta:
        if config.rope_scaling is not None and found.rope_theta not in (config.rope_theta, asked.rope_theta):
            raise ValueError(
                f"{start.folder}: its rope_theta is {theta:g}, but model.rope_scaling would stretch "
                f"{config.rope_theta:g}; set model.rope_theta={theta:g}"
            )
        theta, factor = asked.rope_theta, asked.rope_factor
    length = max(config.max_seq_len, found.max_seq_len)
    return replace(found, max_seq_len=length, rope_theta=theta, rope_factor=factor)


def check_shape(folder: Weights, wanted: dict[str, float], whose: str) -> None:
    """Raises ValueError, one line, if the weights of a folder are of another shape."""
    for name, value in wanted.items():
        if (found := getattr(folder.arch, name)) != value:
            raise ValueError(
                f"{folder.folder}: {name} is {found} in the folder, {value} in {whose}; "
                "leave out what model gives of the shape, or start from another folder"
            )


def check_start(folder: Weights, arch: Architecture, vocabulary: Vocabulary, first: bool = True) -> None:
    """Raises ValueError, one line, if a stage of this decoder over these codes cannot start from a folder's weights.

    Args:
        first: of the stages, whose folder `arch` was made from: what `model` stretched may differ from it.
    """
    codes = vocabulary.codebook_size
    if folder.arch.codebook_size != codes:
        raise ValueError(
            f"{folder.folder}: a model of {folder.arch.codebook_size} codes, the tokenizer of this recipe has {codes}; "
            "name the tokenizer that it was trained with"
        )
    fixed = (*SHAPE, "vocab_size") if first else (*SHAPE, "vocab_size", *FREE)
    check_shape(folder, {name: getattr(arch, name) for name in fixed}, "this recipe")
    if (folder.folder / INFO).exists():
        theirs, ours = read_json(folder.folder / INFO).get("code_fingerprint"), vocabulary.code_fingerprint
        if theirs is not None and theirs != ours:
            raise ValueError(
                f"{folder.folder}: trained on the codes of another tokenizer ({theirs}, this recipe's is {ours}); "
                f"name that one, e.g. {folder.folder / 'tokenizer'}"
            )


def carry_moments(learner: LanguageLearner, pieces: Pieces) -> None:
    """Go on with AdamW's moments and step count of the stage before."""
    names = {id(parameter): f"model.{name}" for name, parameter in learner.model.named_parameters()}
    for phase, optimizer in learner.optimizers.items():
        checkpoint.load_optimizer_tensors(optimizer, names, pieces.under(f"optimizer/{phase}/"))


def model_info(config: Recipe, stores: list[Store]) -> dict[str, Any]:
    """`ModelInfo` of a recipe's model, as plain values, without what follows from the tokenizer."""
    last = config.stages[-1]
    return {
        "name": config.name,
        "geometry": stores[0].info.geometry,
        "pictures": last.data.pictures,
        "bos": last.data.bos if last.data.mode == "sentences" else "none",
        "eos": last.data.eos,
        "kinds": {k: task for s in reversed(stores) for k, task in s.info.kinds.items() if "task" in task},
        "recipe": recipe.to_dict(config),
        "history": [
            {"stage": s.name, "steps": s.train.steps, "batch_size": s.train.batch_size, "pictures": s.data.pictures}
            | ({"init_from": s.init_from} if s.init_from else {})
            for s in config.stages
        ],
        "sources": {name: about for s in reversed(stores) for name, about in s.info.sources.items()},
    }


def codes_by_kind(stores: list[Store]) -> dict[str, np.ndarray]:
    """kind -> (K,) bool: the codes that occur in the training pictures of the kind."""
    size = stores[0].info.codebook_size or 0
    used: dict[str, np.ndarray] = {}
    for shard in (shard for store in stores for shard in store.select("train")):
        for kind, variants in shard.info.columns.items():
            mask = used.setdefault(kind, np.zeros(size, bool))
            for v in range(variants):
                mask[np.unique(shard.column(kind, v))] = True
    return used
