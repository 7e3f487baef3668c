"""`lvmlite tokenizer evaluate | ceiling`: what a tokenizer costs, before a model is trained on its codes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lvmlite.cli.base import command, print_tables

if TYPE_CHECKING:
    from pathlib import Path

    from lvmlite.schema import Recipe
    from lvmlite.tokenizers.base import Tokenizer


def add_tokenizer_commands(group: Any) -> None:
    """Add `evaluate` and `ceiling` to the commands of `lvmlite tokenizer`."""

    def measures(name: str, protocol: str, text: str) -> argparse.ArgumentParser:
        made = command(
            group,
            name,
            lambda args: measure(args, protocol),
            text,
            f"How much is measured stands in the recipe: evaluate=[{{protocol: {protocol}, n_pictures: 1000}}]",
        )
        made.set_defaults(name=name)
        made.add_argument("tokenizer", metavar="TOKENIZER", help="a folder: of a tokenizer, a model or a run")
        made.add_argument(
            "recipe",
            metavar="RECIPE",
            help="whose pictures: a YAML file, the name of a recipe that comes with lvmlite, or a run folder; they are "
            "drawn into its out folder if they are not there",
        )
        made.add_argument("settings", nargs="*", metavar="key=value", help="change values of the recipe")
        made.add_argument("--split", metavar="NAME", default="test", help="train, val or test (default: test)")
        made.add_argument(
            "--out", metavar="DIR", help=f"for results.json and pictures (default: {name} in the tokenizer's folder)"
        )
        made.add_argument("--device", default=None, help="auto, cpu, cuda or mps (default: the recipe's)")
        made.add_argument("--quiet", action="store_true", help="no progress")
        return made

    measures(
        "evaluate", "reconstruction", "PSNR, SSIM, LPIPS, rFID and the use of the codes, for photos and each annotation"
    )
    ceiling = measures("ceiling", "ceiling", "how well each task is still read after the tokenizer: ground truth rec.")
    ceiling.add_argument(
        "--palette",
        metavar="P",
        action="append",
        default=[],
        help="draw classes with this one too: painter150, distinct, ade20k, cityscapes, voc, or a .json file",
    )


def measure(args: argparse.Namespace, protocol: str) -> None:
    from dataclasses import replace
    from pathlib import Path

    from lvmlite.devices import pick_device
    from lvmlite.evaluate.protocols import protocol_configs
    from lvmlite.sample import SPLITS
    from lvmlite.steps import evaluate_tokenizer
    from lvmlite.tokenizers import load_tokenizer

    if args.split not in SPLITS:
        raise ValueError(f"--split is {' or '.join(SPLITS)}, not {args.split}")
    config, folder = recipe_of(args.recipe, args.settings), find_tokenizer(Path(args.tokenizer))
    wanted = [found for found in config.evaluate if found.protocol == protocol] or [protocol_configs()[protocol]()]
    if palettes := getattr(args, "palette", []):
        wanted = [replace(found, palettes=[*found.palettes, *palettes]) for found in wanted]
    tokenizer = load_tokenizer(folder, pick_device(args.device or config.device))
    check_size(tokenizer, folder, config)
    if config.tokenizer.path is not None:
        config.tokenizer.path = str(folder)
    draw_pixels(config, args.quiet)
    out = Path(args.out) if args.out else folder / args.name
    out.mkdir(parents=True, exist_ok=True)
    print_tables(evaluate_tokenizer(tokenizer, config, wanted, out, args.split, args.quiet))
    print(out / "results.json")


def tokenizer_lines(tokenizer: Any) -> list[str]:
    """What a VQGAN is, for people: its size, geometry, codes and fingerprints."""
    net, (rows, columns) = tokenizer.config, tokenizer.grid
    attention = [f"side {side}" for side in net.attention] + ["the middle"] * bool(net.middle_attention)
    said = {
        "parameters": f"{sum(p.numel() for p in tokenizer.parameters()):,}",
        "pictures": f"{tokenizer.image_size} x {tokenizer.image_size}, {rows} x {columns} codes, f = {net.f}",
        "codes": f"{tokenizer.codebook_size} of dimension {tokenizer.quantize.dim}, {net.quantizer.quantizer}",
        "widths": ", ".join(str(net.channels * m) for m in net.multipliers),
        "blocks a level": f"{net.n_res_blocks}, in the decoder {net.n_decoder_res_blocks}",
        "attention": ", ".join(attention) or "none",
        "code fingerprint": tokenizer.code_fingerprint,
        "decoder fingerprint": tokenizer.decoder_fingerprint,
    }
    return [f"  {name}: {value}" for name, value in said.items()]


def find_tokenizer(path: Path) -> Path:
    """The tokenizer folder that a path is, or that the model or run folder there holds.

    Raises:
        ValueError: none.
    """
    for folder in (path, path / "tokenizer" / "final", path / "tokenizer", path / "model" / "tokenizer"):
        if (folder / "config.json").is_file() and not (folder / "lvmlite.json").exists():
            return folder
    raise ValueError(f"{path}: neither a tokenizer folder (config.json) nor a model or run folder with one")


def recipe_of(name: str, settings: list[str]) -> Recipe:
    """A recipe by file or name, or that of a run folder, whose pixels then lie there; without what is of a model."""
    import json
    from pathlib import Path

    from lvmlite.evaluate.protocols import without_model
    from lvmlite.recipe.files import read_extended
    from lvmlite.schema import Recipe, load_recipe, recipe_path

    path = Path(name) / "recipe.yaml"
    here = [f"out={name}"] if path.is_file() else []
    path = path if here else recipe_path(name)
    listed = read_extended(path, Recipe)[0].get("evaluate") or []
    kept = [entry for entry in listed if isinstance(entry, dict) and entry.get("protocol") in without_model()]
    return load_recipe(path, [*here, f"evaluate={json.dumps(kept)}", *settings, "stages=[]"])


def check_size(tokenizer: Tokenizer, folder: Path, config: Recipe) -> None:
    """Raises ValueError if the recipe draws pictures of another size than the tokenizer reads."""
    size, drawn = tokenizer.image_size, config.data.geometry.size
    if size != drawn:
        raise ValueError(
            f"{folder}: reads pictures of {size} px, the recipe draws {drawn} px; add data.geometry.size={size} and "
            "an out=DIR of their own"
        )


def draw_pixels(config: Recipe, quiet: bool) -> None:
    """Draw the pictures of a recipe into its out folder, unless they are there.

    Raises:
        ValueError: the recipe keeps no pixels, or others lie there.
    """
    from lvmlite.pipeline import Pipeline

    pipeline = Pipeline(config, quiet=quiet)
    step = next((step for step in pipeline.steps if step.name == "pixels"), None)
    if step is None:
        why = "data.pixels is false" if config.data.sources else "data.sources is empty"
        raise ValueError(f"{config.name}: has no pixels to measure a tokenizer on: {why}")
    found = pipeline.read_mark(step)
    if found is not None and found["key"] != step.key:
        raise ValueError(f"{pipeline.out / 'pixels'}: drawn by another recipe; add out=DIR to draw these elsewhere")
    (pipeline.out / "steps").mkdir(parents=True, exist_ok=True)
    pipeline.advance(step)
