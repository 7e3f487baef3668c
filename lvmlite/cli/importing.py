"""`lvmlite tokenizer import`: open a published image tokenizer and save it as ours."""

from __future__ import annotations

import argparse
from typing import Any

from lvmlite.cli.base import command


def add_import_command(group: Any) -> None:
    """Add `import` to the commands of `lvmlite tokenizer`."""
    made = command(
        group,
        "import",
        import_tokenizer,
        "open a published VQGAN: LVM's, taming-transformers', MaskGIT's, LlamaGen's, diffusers'",
        "Nothing in the file is run. What the file does not say is assumed, and printed.",
    )
    made.add_argument("path", metavar="PATH", help="a file of weights, or the folder that holds it")
    made.add_argument("--out", metavar="DIR", required=True, help="the tokenizer folder to write")
    made.add_argument("--format", default="auto", help="auto (default), lvm, taming, maskgit, llamagen, diffusers")
    made.add_argument("--config", metavar="FILE", help="the YAML or JSON file that came with the weights")
    made.add_argument("--image-size", metavar="N", type=int, help="H = W (default: the config's, else 256)")
    made.add_argument(
        "--pixel-range", help="what the net sees: unit, [0, 1], or symmetric, [-1, 1] (default: format's)"
    )


def import_tokenizer(args: argparse.Namespace) -> None:
    from pathlib import Path

    from lvmlite.interop.vqgan import import_vqgan
    from lvmlite.tokenizers.base import save_tokenizer

    out = Path(args.out)
    if (out / "config.json").exists():
        raise ValueError(f"{out}: holds a tokenizer or model already; name another folder")
    tokenizer, format, assumed = import_vqgan(
        args.path, args.format, config=args.config, image_size=args.image_size, pixel_range=args.pixel_range
    )
    save_tokenizer(tokenizer, out)
    net, (rows, columns) = tokenizer.config, tokenizer.grid
    attention = [f"side {side}" for side in net.attention] + ["the middle"] * bool(net.middle_attention)
    print(f"{out}: a tokenizer, read as {format}")
    print(f"  parameters: {sum(p.numel() for p in tokenizer.parameters()):,}")
    print(f"  pictures: {tokenizer.image_size} x {tokenizer.image_size}, {rows} x {columns} codes, f = {net.f}")
    print(f"  codes: {tokenizer.codebook_size} of dimension {tokenizer.quantize.dim}")
    print(f"  widths: {', '.join(str(net.channels * m) for m in net.multipliers)}")
    print(f"  blocks a level: {net.n_res_blocks}, in the decoder {net.n_decoder_res_blocks}")
    print(f"  attention: {', '.join(attention) or 'none'}")
    print(f"  code fingerprint: {tokenizer.code_fingerprint}\n  decoder fingerprint: {tokenizer.decoder_fingerprint}")
    print(f"  assumed: {'; '.join(assumed) or 'nothing'}")
