"""Keys and values of earlier positions, for generation.

Legend: B sequences, G key/value heads, d head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lvmlite.model.architecture import Architecture


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
