"""LoRA (arXiv 2106.09685): a trained product of two thin matrices beside each frozen weight, merged at export.

In: a `Transformer`, or the tensors of one. Out: the same with adapters; and back, without them. A frozen weight keeps
its place and Hugging Face's name; its adapters are called `lora_a` and `lora_b` beside it.

Legend: I inputs, O outputs of a linear layer, R rank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmlite.model.files import Tensors
from lvmlite.model.transformer import Transformer
from lvmlite.recipe import Range

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class LoRAConfig:
    """Attributes:
    rank: of the adapters; alpha: they are scaled by alpha / rank.
    targets: the linear layers of every block that get one.
    """

    rank: Annotated[int, Range(1)] = 16
    alpha: Annotated[float, Range(0)] = 32.0
    targets: list[Target] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets is empty: name at least one, e.g. [q_proj, v_proj]")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def adapts(self, name: str) -> bool:
        """Whether the weight of this name gets adapters."""
        return name.endswith(tuple(f".{target}.weight" for target in self.targets))


class LoRALinear(nn.Module):
    """x (..., I) -> x W^T + scale x A^T B^T (..., O).

    Attributes:
        weight: W (O, I), frozen; lora_a: A (R, I); lora_b: B (O, R), zeros at first: nothing changes yet.
    """

    def __init__(self, linear: nn.Linear, config: LoRAConfig):
        super().__init__()
        self.weight = linear.weight.requires_grad_(False)
        self.lora_a = nn.Parameter(self.weight.new_empty(config.rank, linear.in_features))
        self.lora_b = nn.Parameter(self.weight.new_zeros(linear.out_features, config.rank))
        self.scale = config.scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)


def add_lora(model: Transformer, config: LoRAConfig, seed: int = 0) -> Transformer:
    """Give a decoder adapters, in place; they alone are trained. On the meta device they get shapes, no values."""
    model.requires_grad_(False)
    for name, layer in list(model.named_modules()):
        if config.adapts(f"{name}.weight"):
            assert isinstance(layer, nn.Linear)
            adapted = LoRALinear(layer, config)
            if not adapted.weight.is_meta:
                adapted.lora_a.data.copy_(first_values(f"{name}.lora_a", tuple(adapted.lora_a.shape), seed))
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, adapted)
    return model


def first_values(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """What an adapter starts from: `lora_a` by (seed, name), uniform within 1 / sqrt(I) as released; `lora_b` zeros."""
    if name.endswith(".lora_b"):
        return torch.zeros(*shape)
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")
    generator = torch.Generator().manual_seed(key % 2**63)
    return (2 * torch.rand(*shape, generator=generator) - 1) / math.sqrt(shape[1])


class Adapted(Mapping[str, Tensor]):
    """Tensors of a decoder and of its adapters before training, see `Tensors`: what `add_lora` would make of them."""

    def __init__(self, base: Tensors, config: LoRAConfig, seed: int):
        self.base, self.seed = base, seed
        self._adapters: dict[str, tuple[int, ...]] = {}
        for name in filter(config.adapts, base):
            n_out, n_in = base.shape(name)
            layer = name.removesuffix("weight")
            self._adapters |= {f"{layer}lora_a": (config.rank, n_in), f"{layer}lora_b": (n_out, config.rank)}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._adapters[name] if name in self._adapters else self.base.shape(name)

    def read(self, name: str, offset: Sequence[int] | None = None, size: Sequence[int] | None = None) -> Tensor:
        if name not in self._adapters:
            return self.base.read(name, offset, size)
        shape = self._adapters[name]
        start, size = offset or (0, 0), shape if size is None else size
        return first_values(name, shape, self.seed)[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        yield from self.base
        yield from self._adapters

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Merged(Mapping[str, Tensor]):
    """Tensors of a decoder with its adapters merged into the weights, W + scale B A, see `Tensors`; one at a time."""

    def __init__(self, trained: Tensors, config: LoRAConfig):
        self.trained, self.config = trained, config
        self._names = [name for name in trained if not name.endswith((".lora_a", ".lora_b"))]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.trained.shape(name)

    def read(self, name: str, offset: Sequence[int] | None = None, size: Sequence[int] | None = None) -> Tensor:
        weight = self.trained.read(name, offset, size)
        if not self.config.adapts(name):
            return weight
        (row, column), (rows, columns), rank = offset or (0, 0), weight.shape, self.config.rank
        layer = name.removesuffix("weight")
        a = self.trained.read(f"{layer}lora_a", (0, column), (rank, columns))
        b = self.trained.read(f"{layer}lora_b", (row, 0), (rows, rank))
        return (weight.float() + self.config.scale * (b.float() @ a.float())).to(weight.dtype)

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
