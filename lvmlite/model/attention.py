"""Attention: `scaled_dot_product_attention` is the reference; faster exact paths where PyTorch's kernel is slow.

Causal. On CPUs in bf16, the backward of PyTorch's flash kernel dominates a training step at short contexts. There the
scores of a few hundred positions fit a cache, so plain products and a softmax per block of queries win: measured on one
core, 64 sequences of 64 positions take 8 ms instead of 42, 8 of 512 about the same or half; at 4096 the kernel wins.

Packed sentences. A sentence never attends to its neighbours in the row, in one of three ways, each the same to rounding
(`Documents` says which):
- a dense boolean mask, the reference of the tests: all T x T scores are computed, most of them to be thrown away
- sentences of one length become a batch of their own and are attended causally: k sentences a row cost a k-th and need
  no mask. It runs on every device, and on CUDA it gives the flash kernels what they know, but its shapes change with
  the mix of lengths
- FlexAttention (arXiv 2412.05496) on CUDA for mixed lengths: blocks of 128 x 128 scores between two sentences are never
  computed, and all shapes stay, so that compiled code does. PyTorch's varlen kernels do the same, but take half
  precision alone and have no form that a machine without a GPU could check

Legend: B rows, T positions, H heads, G key/value heads, d head dimension, L positions of the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128  # queries whose scores exist at one time
LONGEST = 1024  # between 512, where this path is no slower, and 4096, where PyTorch's kernel wins
FLEX_BLOCK = 128  # queries and keys of a block that FlexAttention computes or leaves out


class Documents:
    """Which positions of a batch are one sentence: made once a batch, read by every layer.

    Rotary positions are relative, so this mask alone makes a packed sentence equal to the same sentence in a row of
    its own.

    Args:
        document: (B, T) int; a run of equal numbers is a sentence, -1 is padding, which attends to nothing and gets
            zeros. Best on the host: the lengths are read there, so that a GPU need not be waited for.
        device: where attention will run.

    Attributes:
        padding: (B, T) bool, on `device`.
        sentence: (B, T) int64, on `device`: 1, 2 .. along a row; every padding position is a number of its own.
        lengths: the distinct lengths of sentences, ascending, and how many positions the sentences of each fill.
        order: (all of these,) int64, on `device`: their places in the flattened (B * T,), shorter sentences first.
        uniform: the length, if there is only one and no padding: then splitting the rows is a view.
        blocks: what FlexAttention computes, on CUDA where lengths are mixed; else None.
    """

    def __init__(self, document: Tensor, device: torch.device):
        padding = document < 0
        first = padding.clone()
        first[:, 0] = True
        first[:, 1:] |= document[:, 1:] != document[:, :-1]
        starts = first.flatten().nonzero()[:, 0]
        length = torch.diff(starts, append=starts.new_tensor([document.numel()]))
        real = ~padding.flatten()[starts]
        order, self.lengths = [starts[:0]], {}
        for n in length[real].unique().tolist():
            order.append((starts[real & (length == n), None] + torch.arange(n, device=starts.device)).flatten())
            self.lengths[n] = len(order[-1])
        self.order = torch.cat(order).to(device)
        self.uniform = next(iter(self.lengths)) if len(self.lengths) == 1 and real.all() else None
        self.padding = padding.to(device)
        self.sentence = first.cumsum(1).to(device)
        self.blocks = block_mask(self.sentence) if device.type == "cuda" and self.uniform is None else None

    def dense(self) -> Tensor:
        """(B, 1, T, T) bool, True where a query may look: at its sentence up to itself, padding at itself alone."""
        return (self.sentence[:, None, :, None] == self.sentence[:, None, None, :]).tril()


Mask = Tensor | Documents | None


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Attention of q (B, H, T, d) on k, v (B, G, L, d).

    Args:
        mask: bool, True where a query may look, broadcastable to (B, H, T, L); or packed sentences, L = T, causal
            inside each; or None: causal if T > 1, all of L if T = 1.

    Returns:
        (B, H, T, d).
    """
    if isinstance(mask, Documents):
        return by_length(q, k, v, mask) if mask.blocks is None else by_block(q, k, v, mask.blocks, mask.padding)
    causal = mask is None and q.shape[2] > 1
    training = q.requires_grad and q.device.type == "cpu" and q.dtype == torch.bfloat16
    if causal and training and k.shape[1] == q.shape[1] and q.shape[2] <= LONGEST:
        return blockwise_causal(q, k, v)
    return reference(q, k, v, mask)


def reference(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """`attend` by PyTorch's kernels, packed sentences by a dense mask.

    On CUDA, grouped keys stay grouped: the flash kernel reads them so (`enable_gqa`), in half precision and without a
    mask; elsewhere PyTorch falls back to plain products, which is right and slow. Float32 is for tests there.
    """
    how: dict[str, Any] = {"attn_mask": mask.dense() if isinstance(mask, Documents) else mask}
    if mask is None and q.shape[2] > 1:
        how = {"is_causal": True}
    kernel = partial(F.scaled_dot_product_attention, **how, enable_gqa=k.shape[1] != q.shape[1])
    y = run(kernel, q, k, v)
    return y.masked_fill(mask.padding[:, None, :, None], 0) if isinstance(mask, Documents) else y


def by_length(q: Tensor, k: Tensor, v: Tensor, documents: Documents) -> Tensor:
    """`attend` with the sentences of each length as one batch, and no mask."""
    b, h, t, d = q.shape
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))  # (B * T, H or G, d)
    if documents.uniform is not None:
        y = each(q, k, v, documents.uniform)
    else:
        done = [q[:0]]  # a batch of padding alone still belongs to its inputs' graph
        for n, order in zip(documents.lengths, documents.order.split(list(documents.lengths.values()))):
            done.append(each(q.index_select(0, order), k.index_select(0, order), v.index_select(0, order), n))
        found = torch.cat(done)
        y = found.new_zeros(b * t, h, d).index_copy(0, documents.order, found)
    return y.view(b, t, h, d).transpose(1, 2)


def each(q: Tensor, k: Tensor, v: Tensor, n: int) -> Tensor:
    """Causal attention inside consecutive sentences of n positions: (N * n, H or G, d) -> (N * n, H, d)."""
    q, k, v = (x.view(len(x) // n, n, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    y = attend(q, k, v, None)
    return y.transpose(1, 2).flatten(0, 1)


def by_block(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask, padding: Tensor) -> Tensor:
    """`attend` by FlexAttention: compiled on CUDA, PyTorch's plain form elsewhere (it has no backward there)."""
    kernel: Callable[..., Any] = flex_attention
    if q.device.type == "cuda" and not torch.compiler.is_compiling():  # else compiled with the code around it
        kernel = compiled_flex_attention()
    kernel = partial(kernel, block_mask=blocks, enable_gqa=k.shape[1] != q.shape[1])
    return run(kernel, q, k, v).masked_fill(padding[:, None, :, None], 0)


@cache
def compiled_flex_attention() -> Callable[..., Any]:
    return torch.compile(flex_attention)


def block_mask(sentence: Tensor) -> BlockMask:
    """`Documents.sentence` as blocks of FlexAttention, found without ever making the T x T mask.

    Numbers never fall along a row. So a block of queries sees something of an earlier block of keys if the keys end in
    the sentence in which the queries begin, and all of it if the keys begin in the sentence in which the queries end.
    """
    t = sentence.shape[1]
    number = F.pad(sentence, (0, -t % FLEX_BLOCK), value=t + 1)  # the last is no sentence's
    first, last = number[:, ::FLEX_BLOCK], number[:, FLEX_BLOCK - 1 :: FLEX_BLOCK]
    seen = (last[:, None, :] >= first[:, :, None]).tril()  # (B, blocks of queries, blocks of keys)
    all_of = (first[:, None, :] == last[:, :, None]).tril(-1)

    def visible(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (number[b, query] == number[b, key]) & (query >= key)

    def listed(which: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, blocks) how many blocks of keys those of queries have, (B, 1, blocks, blocks) which, the rest last."""
        numbers = which.int().argsort(dim=-1, descending=True, stable=True)
        return which.sum(-1, dtype=torch.int32)[:, None], numbers.int()[:, None]

    return BlockMask.from_kv_blocks(
        *listed(seen & ~all_of), *listed(all_of), BLOCK_SIZE=FLEX_BLOCK, mask_mod=visible, seq_lengths=(t, t)
    )


def run(kernel: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The kernel, on CUDA with a head dimension it is fast at: 3b's 100 is no multiple of 8."""
    return padded(kernel, q, k, v) if q.device.type == "cuda" and q.shape[-1] % 8 else kernel(q, k, v)


def padded(kernel: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The kernel on heads filled with zeros to a multiple of 8, at the scale of the true dimension: the same values."""
    d = q.shape[-1]
    return kernel(*(F.pad(x, (0, -d % 8)) for x in (q, k, v)), scale=d**-0.5)[..., :d]


def blockwise_causal(q: Tensor, k: Tensor, v: Tensor, block: int = BLOCK) -> Tensor:
    """Exact causal attention, all (B, H, T, d): blocks of queries against the keys up to their last."""
    b, h, t, d = q.shape
    q, k, v = (x.reshape(b * h, t, d) for x in (q * d**-0.5, k, v))
    ahead = torch.full((block, block), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    out = []
    for start in range(0, t, block):
        end = min(start + block, t)
        mask = F.pad(ahead[: end - start, : end - start], (start, 0))
        scores = torch.baddbmm(mask, q[:, start:end], k[:, :end].transpose(1, 2))
        out.append(scores.softmax(-1) @ v[:, :end])
    return torch.cat(out, 1).view(b, h, t, d)
