"""`lvmlite tokenizer palette`: colours of classes that survive a tokenizer, found on the train maps of a recipe."""

from __future__ import annotations

import argparse
from typing import Any

from lvmlite.cli.base import command


def add_palette_command(group: Any) -> None:
    """tokenizer palette."""
    made = command(
        group,
        "palette",
        find_palette,
        "search for class colours that come back of a tokenizer as they were drawn",
        "Then name the file in the recipe: data.kinds.seg.palette=palette.json. Stores with the kind are drawn again.",
    )
    made.add_argument("tokenizer", metavar="TOKENIZER", help="a folder: of a tokenizer, a model or a run")
    made.add_argument(
        "recipe",
        metavar="RECIPE",
        help="whose maps are drawn: a YAML file, the name of a recipe that comes with lvmlite, or a run folder",
    )
    made.add_argument("--kind", default="seg", help="a kind of the recipe whose task is segmentation (default: seg)")
    made.add_argument("--steps", type=int, default=500, metavar="N", help="moves to try (default: 500)")
    made.add_argument("--maps", type=int, default=64, metavar="N", help="train maps to try them on (default: 64)")
    made.add_argument("--out", default="palette.json", metavar="FILE", help="a .json (default: palette.json)")
    made.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    made.add_argument("--quiet", action="store_true", help="no progress")
    made.add_argument("settings", nargs="*", metavar="key=value", help="change values of the recipe")


def find_palette(args: argparse.Namespace) -> None:
    from pathlib import Path

    from lvmlite.cli.tokenizer import find_tokenizer, recipe_of
    from lvmlite.data.sources import build_source
    from lvmlite.devices import pick_device
    from lvmlite.evaluate.palettes import fitted_maps, save_palette, search_palette
    from lvmlite.tasks.segmentation import Segmentation, SegmentationConfig
    from lvmlite.tokenizers import load_tokenizer
    from lvmlite.train.log import progress

    out = Path(args.out)
    if out.suffix != ".json" or out.is_dir():
        raise ValueError(f"{out}: a palette is a .json file; name one with --out")
    if args.steps < 0 or args.maps < 1:
        raise ValueError("--steps is at least 0 and --maps at least 1")
    if out.exists():
        raise ValueError(f"{out}: is there already, and stores may have been drawn with it; name another with --out")
    config = recipe_of(args.recipe, args.settings)
    data, kind = config.data, config.data.kinds.get(args.kind)
    if not isinstance(kind, SegmentationConfig):
        names = [name for name, other in data.kinds.items() if isinstance(other, SegmentationConfig)]
        raise ValueError(
            f"--kind {args.kind}: not a segmentation kind of the recipe; it has {', '.join(names) or 'none'}"
        )
    task = Segmentation(kind)
    tokenizer = load_tokenizer(find_tokenizer(Path(args.tokenizer)), pick_device(args.device))
    if tokenizer.image_size != data.geometry.size:
        raise ValueError(
            f"the recipe draws {data.geometry.size} pixels, the tokenizer takes {tokenizer.image_size}; "
            f"add data.geometry.size={tokenizer.image_size}"
        )
    drawing = [source for source in data.sources if args.kind in data.only.get(source.name, [args.kind])]
    sources = [build_source(source, config.seed) for source in drawing]
    sources = [source for source in sources if task.annotation in source.annotations]
    maps, _, unreadable = fitted_maps(sources, task, data.geometry, "train", args.maps)
    with progress("palette", args.steps, "moves", args.quiet) as bar:
        found = search_palette(
            tokenizer,
            task.palette.n_classes,
            maps,
            seed=config.seed,
            steps=args.steps,
            distance=kind.distance,
            progress=lambda done, score: bar.update(done, f"mIoU {100 * score:.1f}"),
        )
    about = {"recipe": config.name, "kind": args.kind, "maps": len(maps), "steps": args.steps, "seed": config.seed}
    save_palette(out, found, tokenizer, about)
    print(f"mIoU through the tokenizer, of a quarter of {len(maps)} train maps ({unreadable} more could not be read):")
    for name, (_, score) in found.starts.items():
        print(f"  {name:<12}{100 * score:>6.1f}" + ("  from here" if name == found.start else ""))
    print(f"  {'found':<12}{100 * found.score:>6.1f}  ({found.kept})\n{out}")
