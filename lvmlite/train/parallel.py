"""How a decoder lies on several devices: FSDP2, tensor parallelism, compilation; the model itself knows of none.

In: a `Transformer` and a `ParallelConfig`. Out: the same model, its parameters placed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lvmlite.recipe import Range


@dataclass
class ParallelConfig:
    """How the model lies on the ranks.

    Attributes:
        shard: "full" splits parameters, gradients and moments over the ranks (FSDP2); "none" has all of them on every
            rank; "auto" is full where several ranks have GPUs, else none.
        tensor: ranks that share every product (tensor parallelism).
        compile: each block by torch.compile; "auto" on CUDA.
    """

    shard: Literal["auto", "none", "full"] = "auto"
    tensor: Annotated[int, Range(1)] = 1
    compile: Literal["auto", "on", "off"] = "auto"
