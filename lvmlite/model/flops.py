"""What a decoder costs: FLOPs of a forward and of training, and how many ImageNet epochs that is.

Forward FLOPs of a sequence of L positions: 2 N L + 4 n_layers dim L^2, N = parameters without the embedding table
(a look-up costs nothing). That is LVM-Lite's Table 4 within 8% at context 4096. Training costs three forwards.
"""

from __future__ import annotations

from lvmlite.model.architecture import Architecture

IMAGENET_IMAGES = 1_281_167  # one ImageNet epoch, in pictures


def matmul_parameters(arch: Architecture) -> int:
    """Parameters that take part in a product for every position: all but the embedding table."""
    return arch.n_parameters - arch.vocab_size * arch.dim


def forward_flops(arch: Architecture, context: int) -> float:
    """FLOPs of one sequence of `context` positions, full attention counted, as the paper does."""
    return 2 * matmul_parameters(arch) * context + 4 * arch.n_layers * arch.dim * context**2


def training_flops(arch: Architecture, context: int, tokens: float) -> float:
    """FLOPs of training on `tokens` tokens in sequences of `context`: backward costs two forwards."""
    return 3 * forward_flops(arch, context) * tokens / context


def imagenet_epochs(tokens: float, tokens_per_picture: int = 256) -> float:
    """How many ImageNet epochs a number of tokens is."""
    return tokens / tokens_per_picture / IMAGENET_IMAGES
