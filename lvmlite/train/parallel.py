"""How a decoder lies on several devices: FSDP2, tensor parallelism, compilation; the model itself knows of none.

In: an architecture, a `ParallelConfig`, where the weights come from. Out: a `Transformer`, its parameters placed and
filled. It is made without storage and filled tensor by tensor, so no rank ever holds the whole.

Ranks form a mesh (data, tensor). Along "tensor", neighbours share every product of a block, by heads and by columns of
the MLP (Megatron-LM, arXiv 1909.08053); norms, embedding and head are copied, since every rank has the whole stream
between two products. Along "data", each reads its own part of a batch; with `shard: full` parameters, gradients and
moments are split over them (FSDP, arXiv 2304.11277), else all ranks have all, and the loop sums the gradients.

The order is torchtitan's: tensor parallelism, compilation, sharding. Gradients are sums over ranks, since the shares of
all micro batches sum to 1. Each micro batch's are reduced as soon as they are there: waiting for the last one would
save messages, but keep the gradient of the whole model on every rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch

from lvmlite import distributed
from lvmlite.model.architecture import Architecture
from lvmlite.model.files import Tensors
from lvmlite.model.lora import LoRAConfig, add_lora
from lvmlite.model.transformer import Transformer
from lvmlite.recipe import Range
from lvmlite.train.pieces import local_part

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@dataclass
class ParallelConfig:
    """How the model lies on the ranks.

    Attributes:
        shard: "full" splits parameters, gradients and moments over the ranks (FSDP2); "none" has all of them on every
            rank; "auto" is full where several ranks have GPUs or share products, else none.
        tensor: ranks that share every product (tensor parallelism), best those of one machine.
        compile: each block by torch.compile; "auto" on CUDA.
    """

    shard: Literal["auto", "none", "full"] = "auto"
    tensor: Annotated[int, Range(1)] = 1
    compile: Literal["auto", "on", "off"] = "auto"


def place(
    arch: Architecture,
    config: ParallelConfig,
    device: torch.device,
    weights: int | Tensors,
    bf16: bool = False,
    lora: LoRAConfig | None = None,
) -> Transformer:
    """A model whose parameters are where they belong, and filled; all ranks must call.

    Args:
        weights: a seed, for the very values of `Transformer.init_weights`; or tensors to read, those of the adapters
            with them if there are any.
        bf16: whether it is trained under bf16 autocast.
        lora: its adapters.

    Raises:
        ValueError: ranks or heads do not split into what `tensor` asks for, see `check_parallel`; or adapters with it.
    """
    assert lora is None or not isinstance(weights, int), "adapters need a model to adapt"
    with torch.device("meta"):
        model = Transformer(arch)
    if lora is not None:
        add_lora(model, lora)
    check_parallel(arch, config, distributed.world_size(), lora is not None)
    parallelize(model, config, device, bf16).to_empty(device=device)
    fill(model, weights)
    return model


@torch.no_grad()
def fill(model: Transformer, weights: int | Tensors) -> None:
    """Set all parameters; of sharded ones each rank its part."""
    if isinstance(weights, int):
        for name, values in model.fresh_weights(weights):
            part = local_part(model.get_parameter(name))
            part.tensor.copy_(values[tuple(slice(a, a + n) for a, n in zip(part.offset, part.tensor.shape))])
    else:
        for name, parameter in model.named_parameters():
            part = local_part(parameter)
            part.tensor.copy_(weights.read(name, part.offset, tuple(part.tensor.shape)))


def parallelize(model: Transformer, config: ParallelConfig, device: torch.device, bf16: bool = False) -> Transformer:
    """Split a model, in place, over all ranks; names of parameters stay. See `check_parallel`."""
    from torch.distributed.device_mesh import init_device_mesh

    ranks, tensor = distributed.world_size(), config.tensor
    mesh = None
    if tensor > 1:
        mesh = init_device_mesh(device.type, (ranks // tensor, tensor), mesh_dim_names=("data", "tensor"))
        mesh._flatten("all")  # so that the norm of all gradients is one message
        split_products(model, mesh["tensor"])
    if config.compile == "on" or (config.compile == "auto" and device.type == "cuda"):
        for block in model.model.layers:
            block.compile()
    full = config.shard == "full" or (config.shard == "auto" and (device.type == "cuda" or tensor > 1))
    if full and ranks > tensor:
        mesh = mesh or init_device_mesh(device.type, (ranks,), mesh_dim_names=("data",))
        shard(model, mesh["data"], bf16)
    return model


def check_parallel(arch: Architecture, config: ParallelConfig, ranks: int, lora: bool = False) -> None:
    """Raises ValueError, one line, unless ranks and heads split into what `tensor` asks for, and adapters allow it."""
    tensor = config.tensor
    if lora and tensor > 1:
        raise ValueError(f"parallel.tensor={tensor} does not go with lora: set tensor=1, shard=full saves the memory")
    if arch.n_kv_heads % tensor or arch.hidden_dim % tensor:
        fits = [n for n in range(1, arch.n_kv_heads + 1) if not (arch.n_kv_heads % n or arch.hidden_dim % n)]
        raise ValueError(
            f"parallel.tensor={tensor} does not divide the model's {arch.n_heads} heads, {arch.n_kv_heads} key/value "
            f"heads and hidden_dim {arch.hidden_dim}; what fits is {', '.join(map(str, fits))}"
        )
    if ranks % tensor:
        fits = [n for n in range(1, ranks + 1) if not (ranks % n or arch.n_kv_heads % n or arch.hidden_dim % n)]
        raise ValueError(
            f"parallel.tensor={tensor} does not divide the {ranks} ranks; what fits is {', '.join(map(str, fits))}"
        )
    if tensor > 1 and config.shard == "none" and ranks > tensor:
        raise ValueError(
            f"parallel.shard=none with parallel.tensor={tensor} is for {tensor} ranks, here are {ranks}: use shard=full"
        )


def split_products(model: Transformer, mesh: DeviceMesh) -> None:
    """Tensor parallelism: heads and the MLP's columns over the ranks, all else whole on each (DTensor)."""
    from torch.distributed.tensor import distribute_module
    from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

    plan: dict[str, ParallelStyle] = {"self_attn.o_proj": RowwiseParallel(), "mlp.down_proj": RowwiseParallel()}
    plan |= {f"self_attn.{name}": ColwiseParallel() for name in ("q_proj", "k_proj", "v_proj")}
    plan |= {f"mlp.{name}": ColwiseParallel() for name in ("gate_proj", "up_proj")}
    for block in model.model.layers:
        parallelize_module(block, mesh, plan)
    distribute_module(model, mesh)


def shard(model: Transformer, mesh: DeviceMesh, bf16: bool) -> None:
    """FSDP2, block by block; what is left (embedding, last norm, head) is one more unit.

    With `bf16` blocks are gathered in bf16, half the bytes and no casts left to autocast, which stays on: the residual
    stream, embedding and head are what they are on one device. Gradients are reduced in float32.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    last = len(model.model.layers) - 1  # the backward begins with it
    for i, block in enumerate(model.model.layers):
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=i < last)
    fully_shard(model, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # else the factor needs an operation only NCCL has
