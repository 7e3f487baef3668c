"""The shape of a decoder: presets, and every number that fixes it.

In: a preset and changes to it, the size of a codebook. Out: an `Architecture`.
Papers: LVM (arXiv 2312.00785) and LVM-Lite, whose presets these are (REFERENCE: the table of the released code).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

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


def padded_vocab(codebook_size: int) -> int:
    """codebook_size + BOS + EOS, rounded up to a multiple of 128: 8192 -> 8320."""
    return -(-(codebook_size + 2) // 128) * 128


@dataclass
class RopeScaling:
    """How a model trained on short contexts is stretched to `factor` times as many positions.

    Attributes:
        type: "linear" divides positions (Position Interpolation, arXiv 2306.15595); "ntk" raises theta to
            theta * factor^(d / (d - 2)), so that the slowest frequency is stretched and the fastest stays.
    """

    type: Literal["linear", "ntk"]
    factor: Annotated[float, Range(1)]


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
    rope_factor: float = 1.0  # positions are divided by it
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
    rope_scaling: RopeScaling | None = None
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
        d, theta, factor, scaling = shape["dim"] // shape["n_heads"], self.rope_theta, 1.0, self.rope_scaling
        if scaling is not None and scaling.type == "ntk":
            if d == 2:
                raise ValueError("rope_scaling of type ntk has nothing to stretch in heads of dimension 2; use linear")
            theta *= scaling.factor ** (d / (d - 2))
        elif scaling is not None:
            factor = scaling.factor
        return Architecture(
            **shape,
            n_kv_heads=self.n_kv_heads or shape["n_heads"],
            vocab_size=padded_vocab(codebook_size),
            codebook_size=codebook_size,
            max_seq_len=self.max_seq_len,
            rope_theta=theta,
            rope_factor=factor,
            norm_eps=self.norm_eps,
        )
