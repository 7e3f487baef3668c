"""LoRA (arXiv 2106.09685): a trained product of two thin matrices beside each frozen weight, merged at export.

In: a `Transformer`. Out: the same with adapters. Names of the frozen weights stay Hugging Face's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

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
