"""The LLaMA decoder over picture codes.

In: tokens (B, T) int64. Out: logits (B, T, vocab_size), or with targets the loss of every token (B, T) float32.

What is unusual here:
- parameter names, shapes and half-split RoPE are Hugging Face's `LlamaForCausalLM` from the start, so a model
  folder is a Hugging Face folder; q, k and v are three parameters and one matrix product
- the loss is computed inside `forward`, in chunks, so that a long batch never holds all its logits
- no id >= codebook_size stands for a picture code: BOS = K, EOS = K + 1, the rest is padding to 128

Papers: LVM (arXiv 2312.00785) and LVM-Lite, whose presets these are; LLaMA-2 for the block.
Legend: B sequences, T positions, D dim, H heads, G key/value heads, d = D / H, V vocab_size, K codebook_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lvmlite.model.attention import attend
from lvmlite.recipe import Range

PRESETS: dict[str, dict[str, int]] = {
    "pico": dict(dim=128, hidden_dim=384, n_heads=4, n_layers=4),
    "micro": dict(dim=192, hidden_dim=512, n_heads=4, n_layers=6),
    "nano": dict(dim=256, hidden_dim=704, n_heads=4, n_layers=6),
    "100m": dict(dim=640, hidden_dim=1664, n_heads=10, n_layers=22),
    "300m": dict(dim=1024, hidden_dim=2688, n_heads=8, n_layers=22),
    "600m": dict(dim=1536, hidden_dim=4096, n_heads=16, n_layers=22),
    "1b": dict(dim=2048, hidden_dim=5504, n_heads=16, n_layers=22),
    "3b": dict(dim=3200, hidden_dim=8640, n_heads=32, n_layers=26),
    "7b": dict(dim=4096, hidden_dim=11008, n_heads=32, n_layers=32),
}
IGNORE = -100  # target of a position without loss
LOSS_CHUNK = 8192  # positions whose logits exist at one time


def padded_vocab(codebook_size: int) -> int:
    """codebook_size + BOS + EOS, rounded up to a multiple of 128: 8192 -> 8320."""
    return -(-(codebook_size + 2) // 128) * 128


@dataclass(frozen=True)
class Architecture:
    """Every number that fixes the shape of the decoder. REFERENCE: the presets' table; norm and RoPE as released."""

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    codebook_size: int
    max_seq_len: int = 4096
    rope_theta: float = 1e4
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.n_heads or (self.dim // self.n_heads) % 2:
            raise ValueError(f"dim {self.dim} must be n_heads {self.n_heads} times an even head dimension")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        if self.vocab_size <= self.codebook_size:
            raise ValueError(f"vocab_size {self.vocab_size} leaves no id for BOS after {self.codebook_size} codes")

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def bos(self) -> int:
        return self.codebook_size

    @property
    def eos(self) -> int:
        return self.codebook_size + 1

    @property
    def n_parameters(self) -> int:
        """All parameters, the embedding and the untied head included."""
        kv = self.n_kv_heads * self.head_dim
        block = 2 * self.dim * (self.dim + kv) + 3 * self.dim * self.hidden_dim + 2 * self.dim
        return self.n_layers * block + self.dim + 2 * self.vocab_size * self.dim


@dataclass
class ModelConfig:
    """A preset, any of its numbers overridden. The vocabulary follows from the tokenizer."""

    preset: str = "nano"
    dim: Annotated[int, Range(2)] | None = None
    hidden_dim: Annotated[int, Range(1)] | None = None
    n_layers: Annotated[int, Range(1)] | None = None
    n_heads: Annotated[int, Range(1)] | None = None
    n_kv_heads: Annotated[int, Range(1)] | None = None
    max_seq_len: Annotated[int, Range(1)] = 4096
    rope_theta: Annotated[float, Range(1)] = 1e4
    norm_eps: Annotated[float, Range(0)] = 1e-6

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"no preset '{self.preset}'; the presets are {', '.join(PRESETS)}")

    def resolve(self, codebook_size: int) -> Architecture:
        """The architecture for a tokenizer of `codebook_size` codes. Raises ValueError if numbers do not fit."""
        shape = dict(PRESETS[self.preset])
        for name in shape:
            if (value := getattr(self, name)) is not None:
                shape[name] = value
        return Architecture(
            **shape,
            n_kv_heads=self.n_kv_heads or shape["n_heads"],
            vocab_size=padded_vocab(codebook_size),
            codebook_size=codebook_size,
            max_seq_len=self.max_seq_len,
            rope_theta=self.rope_theta,
            norm_eps=self.norm_eps,
        )


class KVCache:
    """Keys and values of every layer for positions 0 .. length-1, in buffers of fixed capacity.

    Args:
        arch: the model's shape; batch: B; capacity: most positions; dtype, device: of the activations.
    """

    def __init__(self, arch: Architecture, batch: int, capacity: int, dtype: torch.dtype, device: torch.device):
        shape = (arch.n_layers, 2, batch, arch.n_kv_heads, capacity, arch.head_dim)
        self.data = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, G, t, d) keys and values after `length`; give views of all of them, (B, G, length + t, d)."""
        end = self.length + k.shape[2]
        if end > self.data.shape[4]:
            raise ValueError(f"{end} positions do not fit a cache of {self.data.shape[4]}")
        self.data[layer, 0, :, :, self.length : end] = k
        self.data[layer, 1, :, :, self.length : end] = v
        return self.data[layer, 0, :, :, :end], self.data[layer, 1, :, :, :end]

    def repeat(self, times: int, capacity: int) -> KVCache:
        """A copy of B rows for B * times rows, each row `times` in succession: a shared prompt is prefilled once."""
        layers, _, rows, groups, _, d = self.data.shape
        new = object.__new__(KVCache)
        new.data = self.data.new_zeros((layers, 2, rows * times, groups, capacity, d))
        new.length = self.length
        target = new.data.view(layers, 2, rows, times, groups, capacity, d)
        target[..., : self.length, :] = self.data[:, :, :, None, :, : self.length]
        return new


def rope_table(arch: Architecture, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary angles, each (n, d) float32 in Hugging Face's half-split order."""
    d = arch.head_dim
    frequency = 1.0 / arch.rope_theta ** (torch.arange(0, d, 2, dtype=torch.float32, device=device) / d)
    angle = torch.outer(torch.arange(n, dtype=torch.float32, device=device), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (B, H, T, d) by (T, d) tables."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps)
        return y.to(self.weight.dtype)


class Attention(nn.Module):
    def __init__(self, arch: Architecture):
        super().__init__()
        kv = arch.n_kv_heads * arch.head_dim
        self.q_proj = nn.Linear(arch.dim, arch.dim, bias=False)
        self.k_proj = nn.Linear(arch.dim, kv, bias=False)
        self.v_proj = nn.Linear(arch.dim, kv, bias=False)
        self.o_proj = nn.Linear(arch.dim, arch.dim, bias=False)
        self.split = (arch.dim, kv, kv)
        self.head_dim = arch.head_dim

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        b, t, _ = x.shape
        weight = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        q, k, v = F.linear(x, weight).split(self.split, dim=-1)
        q, k, v = (y.view(b, t, -1, self.head_dim).transpose(1, 2) for y in (q, k, v))  # (B, H or G, T, d)
        cos, sin = (table.to(q.dtype) for table in rope)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
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
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, arch: Architecture):
        super().__init__()
        self.input_layernorm = RMSNorm(arch.dim, arch.norm_eps)
        self.self_attn = Attention(arch)
        self.post_attention_layernorm = RMSNorm(arch.dim, arch.norm_eps)
        self.mlp = MLP(arch)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, cache, layer)
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
        generator = torch.Generator().manual_seed(seed)
        writers = ("o_proj.weight", "down_proj.weight")
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.ones_(parameter)
            else:
                scale = std / math.sqrt(2 * self.arch.n_layers) if name.endswith(writers) else std
                noise = torch.randn(parameter.shape, generator=generator) * scale
                parameter.data.copy_(noise)
        return self

    def rope(self, start: int, end: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._rope is None or self._rope[0].device != device:
            with torch.inference_mode(False):  # a table made while generating must serve training too
                self._rope = rope_table(self.arch, self.arch.max_seq_len, device)
        if end > self.arch.max_seq_len:
            raise ValueError(f"{end} positions exceed the model's max_seq_len of {self.arch.max_seq_len}")
        return self._rope[0][start:end], self._rope[1][start:end]

    def hidden(self, tokens: Tensor, document: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """The last hidden state (B, T, D), normed."""
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        rope = self.rope(start, end, tokens.device)
        mask = attention_mask(document, start, end, tokens.device)
        x = self.model.embed_tokens(tokens)
        for layer, block in enumerate(self.model.layers):
            x = block(x, rope, mask, cache, layer)
        if cache is not None:
            cache.length = end
        return self.model.norm(x)

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        document: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits, or the loss of every token.

        Args:
            tokens: (B, T) int64 in [0, vocab_size).
            targets: (B, T) int64, -100 where there is no loss; None to get logits.
            document: (B, T) int, attention stays inside equal numbers; None: one document a row.
            cache: keys and values of earlier positions; the new ones are appended.

        Returns:
            (B, T, vocab_size) logits, or (B, T) float32 losses in nats, 0 where the target is -100.

        Raises:
            ValueError: more positions than max_seq_len.
        """
        x = self.hidden(tokens, document, cache)
        if targets is None:
            return self.lm_head(x)
        rows, goals = x.flatten(0, 1), targets.flatten()
        if len(goals) <= LOSS_CHUNK:
            losses = self._losses(rows, goals)
        else:
            chunks = zip(rows.split(LOSS_CHUNK), goals.split(LOSS_CHUNK))
            losses = torch.cat([checkpoint(self._losses, r, g, use_reentrant=False) for r, g in chunks])
        return losses.view(targets.shape)

    def _losses(self, rows: Tensor, goals: Tensor) -> Tensor:
        logits = self.lm_head(rows).float()
        return F.cross_entropy(logits, goals, ignore_index=IGNORE, reduction="none")


def attention_mask(document: Tensor | None, start: int, end: int, device: torch.device) -> Tensor | None:
    """None where plain causal attention does; else bool, True where a query may look, (B or 1, 1, T, end)."""
    if document is not None:
        assert start == 0, "packed documents are for training; a cache holds one document"
        same = document[:, None, :, None] == document[:, None, None, :]
        return same & torch.ones(end, end, dtype=torch.bool, device=device).tril()
    if start == 0 or end - start == 1:
        return None
    query = torch.arange(start, end, device=device)
    return (torch.arange(end, device=device) <= query[:, None])[None, None]
