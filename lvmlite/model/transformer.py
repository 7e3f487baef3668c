"""The LLaMA decoder over picture codes.

In: tokens (B, T) int64. Out: logits (B, T, vocab_size), or with targets the loss of every token (B, T) float32.

What is unusual here:
- parameter names, shapes and half-split RoPE are Hugging Face's `LlamaForCausalLM` from the start, so a model
  folder is a Hugging Face folder; products of one input (q, k and v; gate and up) are one product of joined weights
- the loss is computed inside `forward`, in chunks, so that a long batch never holds all its logits
- what the backward keeps is a setting, `activations`, down to the block-parallel transformer of LVM
- no id >= codebook_size stands for a picture code: BOS = K, EOS = K + 1, the rest is padding to 128

Papers: LVM (arXiv 2312.00785) and LVM-Lite; LLaMA-2 for the block; Blockwise Parallel Transformer (arXiv 2305.19370).
Legend: B sequences, T positions, D dim, H heads, G key/value heads, d = D / H, V vocab_size, K codebook_size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.utils.checkpoint import checkpoint

from lvmlite.model.architecture import Architecture
from lvmlite.model.attention import Documents, Mask, attend
from lvmlite.model.cache import KVCache
from lvmlite.model.kernels import linear_cross_entropy, mean_cross_entropy, rms_norm, rotate, swiglu
from lvmlite.model.rope import rope_table

Activations = Literal["keep", "selective", "block", "bpt"]
BPT_CHUNK = 2048  # positions of the MLP at one time, as LVM trains


def joined(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """The outputs of several linear layers of one input; on a CPU as one product, where their weights are plain.

    On a GPU each is large enough, and joined weights would be kept for the backward beside those that FSDP gathers.
    """
    weights: list[Any] = [layer.weight for layer in layers]
    if isinstance(weights[0], DTensor):  # wrapped once, so that the ranks sum the input's gradient once
        x = DTensor.from_local(x, weights[0].device_mesh, [Replicate()], run_check=False)
    plain = all(type(layer) is nn.Linear for layer in layers) and not any(isinstance(w, DTensor) for w in weights)
    if x.device.type != "cpu" or not plain:
        return tuple(layer(x) for layer in layers)
    return F.linear(x, torch.cat(weights)).split([len(w) for w in weights], dim=-1)


def whole(weight: Tensor) -> Tensor:
    """A weight that tensor-parallel ranks all have, as a plain tensor."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def again(work: Any, *args: Any) -> Any:
    """Work whose intermediate results are not kept but computed again in the backward."""
    return checkpoint(work, *args, use_reentrant=False) if torch.is_grad_enabled() else work(*args)


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, whole(self.weight), self.eps)


class Attention(nn.Module):
    def __init__(self, arch: Architecture):
        super().__init__()
        kv = arch.n_kv_heads * arch.head_dim
        self.q_proj = nn.Linear(arch.dim, arch.dim, bias=False)
        self.k_proj = nn.Linear(arch.dim, kv, bias=False)
        self.v_proj = nn.Linear(arch.dim, kv, bias=False)
        self.o_proj = nn.Linear(arch.dim, arch.dim, bias=False)
        self.head_dim = arch.head_dim

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Mask, cache: KVCache | None, layer: int) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (y.view(b, t, -1, self.head_dim) for y in joined(x, self.q_proj, self.k_proj, self.v_proj))
        cos, sin = (table.to(q.dtype) for table in rope)
        q, k, v = (y.transpose(1, 2) for y in (rotate(q, cos, sin), rotate(k, cos, sin), v))  # (B, H or G, T, d)
        if cache is not None:
            k, v = cache.append(layer, k.to(cache.data.dtype), v.to(cache.data.dtype))
            q = q.to(k.dtype)
        y = attend(q, k, v, mask)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, arch: Architecture):
        super().__init__()
        self.gate_proj = nn.Linear(arch.dim, arch.hidden_dim, bias=False)
        self.up_proj = nn.Linear(arch.dim, arch.hidden_dim, bias=False)
        self.down_proj = nn.Linear(arch.hidden_dim, arch.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(*joined(x, self.gate_proj, self.up_proj)))


class Block(nn.Module):
    """Attention and MLP, each behind its norm and beside the residual stream.

    Attributes:
        activations: what is kept for the backward: "keep" all of it; "selective" all but the wide MLP; "block" the
            input alone; "bpt" the input alone, and the MLP's width exists for 2,048 positions at a time.
    """

    def __init__(self, arch: Architecture):
        super().__init__()
        self.input_layernorm = RMSNorm(arch.dim, arch.norm_eps)
        self.self_attn = Attention(arch)
        self.post_attention_layernorm = RMSNorm(arch.dim, arch.norm_eps)
        self.mlp = MLP(arch)
        self.activations: Activations = "keep"

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Mask, cache: KVCache | None, layer: int) -> Tensor:
        if self.activations in ("block", "bpt") and self.training:
            return again(self.both, x, rope, mask, cache, layer)
        return self.both(x, rope, mask, cache, layer)

    def both(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Mask, cache: KVCache | None, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, cache, layer)
        if self.activations == "bpt" and self.training:
            return torch.cat([again(self.wide, part) for part in x.split(BPT_CHUNK, dim=1)], dim=1)
        return again(self.wide, x) if self.activations == "selective" and self.training else self.wide(x)

    def wide(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embedding, blocks and last norm: the part Hugging Face calls `model`."""

    def __init__(self, arch: Architecture):
        super().__init__()
        self.embed_tokens = nn.Embedding(arch.vocab_size, arch.dim)
        self.layers = nn.ModuleList(Block(arch) for _ in range(arch.n_layers))
        self.norm = RMSNorm(arch.dim, arch.norm_eps)


class Transformer(nn.Module):
    """The decoder. `Transformer(arch)` is initialised by `init_weights` from the default generator.

    Args:
        arch: the resolved shape.
    """

    def __init__(self, arch: Architecture):
        super().__init__()
        self.arch = arch
        self.model = Trunk(arch)
        self.lm_head = nn.Linear(arch.dim, arch.vocab_size, bias=False)
        self._rope: tuple[Tensor, Tensor] | None = None

    def init_weights(self, seed: int, std: float = 0.02) -> Transformer:
        """Normal(0, std) for every matrix; those that write to the residual stream by std / sqrt(2 n_layers).

        The released LVM uses std 0.02 throughout; scaling the writers keeps the stream's size independent of depth.
        """
        for name, values in self.fresh_weights(seed, std):
            self.get_parameter(name).data.copy_(values)
        return self

    def fresh_weights(self, seed: int, std: float = 0.02) -> Iterator[tuple[str, Tensor]]:
        """What `init_weights` fills in, one parameter at a time, on the CPU; the model itself may be on "meta"."""
        generator = torch.Generator().manual_seed(seed)
        writers = ("o_proj.weight", "down_proj.weight")
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                yield name, torch.ones(parameter.shape)
            else:
                scale = std / math.sqrt(2 * self.arch.n_layers) if name.endswith(writers) else std
                yield name, torch.randn(parameter.shape, generator=generator) * scale

    def rope(self, start: int, end: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._rope is None or self._rope[0].device != device:
            with torch.inference_mode(False):  # a table made while generating must serve training too
                self._rope = rope_table(self.arch, self.arch.max_seq_len, device)
        if end > self.arch.max_seq_len:
            raise ValueError(f"{end} positions exceed the model's max_seq_len of {self.arch.max_seq_len}")
        return self._rope[0][start:end], self._rope[1][start:end]

    def hidden(
        self, tokens: Tensor, document: Tensor | Documents | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """The last hidden state (B, T, D), normed."""
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        rope = self.rope(start, end, tokens.device)
        mask = attention_mask(document, start, end, tokens.device)
        x = F.embedding(tokens, whole(self.model.embed_tokens.weight))
        for layer, block in enumerate(self.model.layers):
            x = block(x, rope, mask, cache, layer)
        if cache is not None:
            cache.length = end
        return self.model.norm(x)

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        document: Tensor | Documents | None = None,
        cache: KVCache | None = None,
        mean: bool = False,
    ) -> Tensor:
        """Logits, or the loss of every token, or the mean loss.

        Args:
            tokens: (B, T) int64 in [0, vocab_size).
            targets: (B, T) int64, -100 where there is no loss; None to get logits.
            document: (B, T) int, attention stays inside a run of equal numbers, -1 is padding, best left on the host;
                or what was made of it before; None: one document a row.
            cache: keys and values of earlier positions; the new ones are appended.
            mean: of the losses, over positions that have one; cheaper to train on than losses that are kept apart.

        Returns:
            (B, T, vocab_size) logits, or (B, T) float32 losses in nats, 0 where the target is -100, or their mean (,).

        Raises:
            ValueError: more positions than max_seq_len.
        """
        x = self.hidden(tokens, document, cache)
        head = whole(self.lm_head.weight)
        if targets is None:
            return F.linear(x, head)
        rows, goals = x.flatten(0, 1), targets.flatten()
        if mean:
            return mean_cross_entropy(rows, head, goals)
        return linear_cross_entropy(rows, head, goals).view(targets.shape)


def attention_mask(document: Tensor | Documents | None, start: int, end: int, device: torch.device) -> Mask:
    """None where plain causal attention does; else packed sentences, or bool where a query may look, (1, 1, T, end)."""
    if document is not None:
        assert start == 0, "packed documents are for training; a cache holds one document"
        return document if isinstance(document, Documents) else Documents(document, device)
    if start == 0 or end - start == 1:
        return None
    query = torch.arange(start, end, device=device)
    return (torch.arange(end, device=device) <= query[:, None])[None, None]
