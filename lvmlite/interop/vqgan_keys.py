"""What published image tokenizers call their weights, and the same in the names of taming-transformers, which are ours.

In: names of tensors as saved. Out: the format they belong to, and our names.

    lvm        the released LVM tokenizer, open-muse's VQGANModel: our names
    taming     taming-transformers and latent-diffusion's VQ models: our names, under "state_dict", beside the loss
    maskgit    open-muse's MaskGitVQGAN: `mid.0`, `upsample_conv`
    llamagen   LlamaGen's VQ-8 and VQ-16: `conv_blocks.i.res.j`, `mid.0/1/2`; the decoder in order of execution
    diffusers  VQModel (aMUSEd): `down_blocks.i.resnets.j`, `attentions.j.to_q`; the decoder in order of execution
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

FORMATS = ("lvm", "taming", "maskgit", "llamagen", "diffusers")

# pieces of a public name -> ours, in this order
PIECES: dict[str, tuple[tuple[str, str], ...]] = {
    "lvm": (),
    "taming": (),
    "maskgit": ((".mid.0.", ".mid.block_1."), (".mid.1.", ".mid.block_2."), (".upsample_conv.", ".upsample.conv.")),
    "llamagen": (
        ("encoder.conv_blocks.", "encoder.down."),
        (".mid.0.", ".mid.block_1."),
        (".mid.1.", ".mid.attn_1."),
        (".mid.2.", ".mid.block_2."),
        (".res.", ".block."),
    ),
    "diffusers": (
        ("encoder.down_blocks.", "encoder.down."),
        (".mid_block.resnets.0.", ".mid.block_1."),
        (".mid_block.resnets.1.", ".mid.block_2."),
        (".mid_block.attentions.0.", ".mid.attn_1."),
        (".resnets.", ".block."),
        (".attentions.", ".attn."),
        (".downsamplers.0.", ".downsample."),
        (".upsamplers.0.", ".upsample."),
        (".conv_norm_out.", ".norm_out."),
        (".conv_shortcut.", ".nin_shortcut."),
        (".group_norm.", ".norm."),
        *((f".{old}.", ".q.") for old in ("to_q", "query")),
        *((f".{old}.", ".k.") for old in ("to_k", "key")),
        *((f".{old}.", ".v.") for old in ("to_v", "value")),
        *((f".{old}.", ".proj_out.") for old in ("to_out.0", "proj_attn")),
    ),
}
DECODER_LEVEL = re.compile(r"^decoder\.(?:conv_blocks|up_blocks)\.(\d+)\.")

# what training left beside the net: its losses, averages of weights, counts of use
BESIDE = (
    "loss.",
    "model_ema.",
    "colorize",
    "quantize.codebook_used",
    "quantize.embedding.cluster_size",
    "quantize.embedding.embed_avg",
)
OTHERS: tuple[tuple[str, str], ...] = (
    (r"^quantize\.(embed|proj)\.", "its quantiser is Gumbel's, not the nearest code"),
    (r"^quantize\.used$", "its codes are remapped"),
    (r"\.conv_y\.", "its norms read the codes (MoVQ)"),
)


def is_beside(name: str) -> bool:
    return name.startswith(BESIDE)


def detect(names: Iterable[str], config: dict[str, Any], wrapped: bool) -> str:
    """The format.

    Args:
        config: what config.json says, or {}.
        wrapped: the tensors stood under "state_dict".

    Raises:
        ValueError: another architecture; the message says which, as far as names tell.
    """
    names = sorted(names)
    if "tokenizer" in config:
        raise ValueError("lvmlite's own tokenizer already; it needs no import")

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    for pattern, reason in OTHERS:
        if found := next((name for name in names if re.search(pattern, name)), None):
            raise ValueError(f"not a tokenizer that can be opened: {reason} ({found})")
    if not has("quantize.embedding."):
        what = "a VAE, its latents are not codes" if has("encoder.") else f"its names are {', '.join(names[:3])} ..."
        raise ValueError(f"not an image tokenizer: no codebook, quantize.embedding.weight; {what}")
    if has("encoder.down_blocks."):
        return "diffusers"
    if has("encoder.conv_blocks."):
        return "llamagen"
    if has("encoder.mid.0."):
        return "maskgit"
    if not has("encoder.down."):
        raise ValueError(
            f"no known VQGAN: its names are {', '.join(names[:3])} ...; known formats: {', '.join(FORMATS)}"
        )
    if "hidden_channels" in config:
        return "lvm"
    return "taming" if wrapped or has("encoder.mid.attn_1.") else "lvm"


def renaming(format: str, names: Iterable[str]) -> Callable[[str], str]:
    """Public name -> ours. `names`: all of the checkpoint, since levels of a decoder may be counted from its end."""
    last = max((int(found[1]) for found in map(DECODER_LEVEL.match, names) if found), default=0)

    def rename(name: str) -> str:
        name = DECODER_LEVEL.sub(lambda found: f"decoder.up.{last - int(found[1])}.", name)
        for old, new in PIECES[format]:
            name = name.replace(old, new)
        return name

    return rename
