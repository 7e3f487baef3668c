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

    from lvmlite.cli.tokenizer import tokenizer_lines
    from lvmlite.interop.vqgan import import_vqgan
    from lvmlite.tokenizers.base import save_tokenizer

    out = Path(args.out)
    if (out / "config.json").exists():
        raise ValueError(f"{out}: holds a tokenizer or model already; name another folder")
    tokenizer, format, assumed = import_vqgan(
        args.path, args.format, config=args.config, image_size=args.image_size, pixel_range=args.pixel_range
    )
    save_tokenizer(tokenizer, out)
    print(f"{out}: a tokenizer, read as {format}")
    print("\n".join(tokenizer_lines(tokenizer)))
    print(f"  assumed: {'; '.join(assumed) or 'nothing'}")
