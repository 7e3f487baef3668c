"""What a decoder costs: FLOPs of a forward and of training, how many ImageNet epochs that is, and device-hours.

Forward FLOPs of a sequence of L positions: 2 N L + 4 n_layers dim L^2, N = parameters without the embedding table
(a look-up costs nothing). That is LVM-Lite's Table 4 within 8% at context 4096. Training costs three forwards.

Two ways to count, and every number says which:
- attention: full (L^2), as the paper; or the causal half that is needed, `causal=True`
- a step: what the model needs (3 forwards; its share of the peak is the MFU), or what is executed, with what is
  computed again for the backward (up to 4 forwards; the HFU)
"""

from __future__ import annotations

from lvmlite.model.architecture import Architecture
from lvmlite.model.transformer import Activations

IMAGENET_IMAGES = 1_281_167  # one ImageNet epoch, in pictures
# LVM-Lite, Table 4: TFLOPs of a forward by context, and "training wall clock" of random sequences over single images
PUBLISHED_TFLOPS = {
    "300m": {256: 0.2, 4096: 4.1},
    "600m": {256: 0.4, 4096: 7.9},
    "1b": {256: 0.6, 4096: 12.8},
    "3b": {256: 1.7, 4096: 33.0},
}
PUBLISHED_SPEEDUP = {"300m": 2.7, "600m": 1.7, "1b": 1.8, "3b": 2.1}


def matmul_parameters(arch: Architecture) -> int:
    """Parameters that take part in a product for every position: all but the embedding table."""
    return arch.n_parameters - arch.vocab_size * arch.dim


def forward_flops(arch: Architecture, context: int, causal: bool = False) -> float:
    """FLOPs of one sequence of `context` positions. Attention is counted in full, as the paper does, or `causal`."""
    seen = context * (context + 1) / 2 if causal else context**2  # pairs of a query and a key
    return 2 * matmul_parameters(arch) * context + 4 * arch.n_layers * arch.dim * seen


def training_flops(arch: Architecture, context: int, tokens: float, causal: bool = False) -> float:
    """FLOPs that training on `tokens` tokens in sequences of `context` needs: backward costs two forwards."""
    return 3 * forward_flops(arch, context, causal) * tokens / context


def executed_flops(
    arch: Architecture, context: int, tokens: float, activations: Activations = "keep", causal: bool = False
) -> float:
    """The same with what is computed a second time: "selective" repeats two of the MLP's three products, "block" and
    "bpt" a whole forward."""
    again = {
        "keep": 0.0,
        "selective": 4.0 * arch.n_layers * arch.dim * arch.hidden_dim * context,
        "block": forward_flops(arch, context, causal),
        "bpt": forward_flops(arch, context, causal),
    }
    return training_flops(arch, context, tokens, causal) + again[activations] * tokens / context


def imagenet_epochs(tokens: float, tokens_per_picture: int = 256) -> float:
    """How many ImageNet epochs a number of tokens is."""
    return tokens / tokens_per_picture / IMAGENET_IMAGES


def device_hours(flops: float, peak: float, mfu: float) -> float:
    """Hours of one device of `peak` FLOP/s, of which the share `mfu` goes into `flops`."""
    return flops / (peak * mfu) / 3600


def recipe_speedup(ratio: float, first: float, second: float) -> float:
    """How many times cheaper the whole recipe is than one with random sequences in stage 1.

    Args:
        ratio: what a token costs at stage 2's context, over what it costs at stage 1's.
        first, second: tokens of the stages, in any unit: 2 and 1 (200 + 100 epochs) give 3 r / (2 + r).
    """
    return (first + second) * ratio / (first + second * ratio)
