"""`lvmlite data inspect | preview | import | export`: token stores on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lvmlite.cli.base import command

if TYPE_CHECKING:
    from lvmlite.data.store import Store
    from lvmlite.data.stream import Stream
    from lvmlite.schema import Recipe


def add_store_commands(stores: Any) -> None:
    """data inspect, preview, import, export."""

    def on_store(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        made = command(stores, name, run, text)
        made.add_argument("store", help="a folder with a store.json, e.g. runs/quickstart/tokens")
        return made

    def takes_mix(made: argparse.ArgumentParser, default: str = "the last") -> None:
        made.add_argument(
            "--recipe", metavar="FILE", help="the recipe whose mix is read (default: recipe.yaml beside the store)"
        )
        made.add_argument("--stage", metavar="NAME", help=f"the stage of the recipe (default: {default})")

    inspect = on_store(
        "inspect", inspect_store, "what a store holds, what the mix makes of it, and whether it is whole"
    )
    takes_mix(inspect, "all")
    inspect.add_argument("--verify", action="store_true", help="check every file against its checksum")
    preview = on_store("preview", preview_store, "draw sentences from a store, decode them, and save a labelled sheet")
    takes_mix(preview)
    preview.add_argument("-n", type=int, default=12, help="how many sentences, of all types in turn (default: 12)")
    preview.add_argument("-o", "--output", metavar="FILE", default="preview.png", help="a .png (default: preview.png)")
    preview.add_argument(
        "--batch", type=int, metavar="I", help="the first of batch I of the recipe's stage, as it was trained on"
    )
    preview.add_argument("--split", metavar="NAME", default="train", help="train (default), val or test")
    preview.add_argument("--seed", type=int, default=0, help="another number draws other sentences (default: 0)")
    preview.add_argument("--tokenizer", metavar="DIR", help="the tokenizer of the store (default: that of its run)")
    preview.add_argument("--scale", type=int, metavar="N", help="draw each pixel N x N (default: until labels fit)")

    into = command(
        stores,
        "import",
        import_store,
        "bring in sentences that another system tokenized: LVM's JSON lines, DeLVM's bin",
        "Read them in a recipe with data.stores: [DIR] and {sentence: whole}.",
    )
    into.add_argument("file", help="a .jsonl (LVM) or .bin (DeLVM) of tokens")
    into.add_argument("--out", required=True, metavar="DIR", help="the store to write")
    into.add_argument("--format", choices=("lvm", "delvm"), help="of the file (default: by its name)")
    into.add_argument("--tokenizer", metavar="DIR", help="that made the tokens; in place of the next three options")
    into.add_argument(
        "--grid",
        type=int,
        nargs=2,
        default=[16, 16],
        metavar=("ROWS", "COLUMNS"),
        help="tokens of a picture (default: 16 16)",
    )
    into.add_argument("--codebook-size", type=int, metavar="N", default=8192, help="number of codes (default: 8192)")
    into.add_argument("--size", type=int, metavar="N", default=256, help="pixels of a picture's side (default: 256)")
    into.add_argument("--name", default="imported", help="what recipes call the source (default: imported)")
    into.add_argument("--split", metavar="NAME", default="train", help="of the sentences: train (default), val or test")
    into.add_argument("--licence", default="unknown", help="of the pictures (default: unknown)")

    out = on_store("export", export_store, "write a store, or sentences drawn from it, for another system")
    takes_mix(out)
    out.add_argument("-o", "--output", metavar="FILE", required=True, help="a .jsonl (LVM), .bin (DeLVM) or .parquet")
    out.add_argument("--format", choices=("lvm", "delvm", "parquet"), help="of the file (default: by its name)")
    out.add_argument("--split", metavar="NAME", help="train, val or test (default: train; for parquet all)")
    out.add_argument("-n", type=int, help="draw N sentences of the mix (default: the photos of every sample)")
    out.add_argument("--seed", type=int, default=0, help="another number draws other sentences (default: 0)")


def inspect_store(args: argparse.Namespace) -> None:
    from lvmlite.data.store import Store
    from lvmlite.stores import describe, describe_mix

    store = Store.open(args.store)
    print("\n".join(describe(store)))
    if args.verify:  # before the mix, which is read from files that are whole
        wrong = store.verify()
        print("\n".join([f"  {line}" for line in wrong] or ["every file matches its checksum"]))
        if wrong:
            files = "1 file is" if len(wrong) == 1 else f"{len(wrong)} files are"
            raise ValueError(f"{store.path}: {files} not as written; delete what is named and build the store again")
    config = recipe_of(store, args.recipe)
    if config is not None and store.info.content == "tokens":
        for stage in config.stages if args.stage is None else [stage_of(config, args.stage)]:
            print(f"\nstage {stage.name}, batches of {stage.train.batch_size} x {stage.data.pictures} pictures")
            print("\n".join(describe_mix(stream_of(store, config, stage.name, "train", config.seed))))


def preview_store(args: argparse.Namespace) -> None:
    from pathlib import Path

    from lvmlite.data.store import Store
    from lvmlite.data.stream import Stream
    from lvmlite.images import encode_png
    from lvmlite.stores import check_split, default_mix, preview
    from lvmlite.tokenizers import load_tokenizer

    path = Path(args.output)
    if args.n < 1 or (args.scale is not None and args.scale < 1):
        raise ValueError("-n and --scale are at least 1")
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ValueError(f"{path}: a picture is written as .png; name one with -o")
    store = Store.open(args.store)
    store.n_tokens  # noqa: B018 - raises for a store of pixels
    check_split(store, args.split)
    config = recipe_of(store, args.recipe)
    beside = store.path.parent / "tokenizer" / "final"
    folder = args.tokenizer or (config.tokenizer.path if config else None) or (beside if beside.is_dir() else None)
    if folder is None:
        raise ValueError(f"{store.path}: no tokenizer beside it; name the one that wrote it with --tokenizer DIR")
    tokenizer = load_tokenizer(folder)
    if store.info.code_fingerprint != "imported":
        store.check_tokenizer(tokenizer.code_fingerprint)
    if args.batch is not None:
        if config is None or not config.stages or args.batch < 0:
            raise ValueError(
                "--batch is a number from 0, of a stage: name its recipe with --recipe if no run is beside"
            )
        stream = trained_stream(store, config, args.stage)
    elif config is not None and config.stages:
        stream = stream_of(store, config, args.stage, args.split, args.seed)
    else:
        stream = Stream([store], args.split, default_mix(store, args.split), args.seed, 64)
    sheet = encode_png(preview(stream, args.n, tokenizer, args.scale, args.batch))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sheet)
    print(path)


def import_store(args: argparse.Namespace) -> None:
    from pathlib import Path

    from lvmlite.exchange import UNKNOWN, format_of, import_tokens, rejected_lines
    from lvmlite.sample import SPLITS
    from lvmlite.stores import describe
    from lvmlite.tokenizers import load_tokenizer
    from lvmlite.train.log import progress

    path = Path(args.file)
    rows, columns = args.grid
    size, codes, code = args.size, args.codebook_size, UNKNOWN
    if args.split not in SPLITS:
        raise ValueError(f"--split is {' or '.join(SPLITS)}, not {args.split}")
    if min(rows, columns, size, codes) < 1:
        raise ValueError("--grid, --size and --codebook-size are at least 1")
    if args.tokenizer:
        tokenizer = load_tokenizer(args.tokenizer)
        (rows, columns), size, codes = tokenizer.grid, tokenizer.image_size, tokenizer.codebook_size
        code = tokenizer.code_fingerprint
    with progress("reading sentences", 0, "sentences") as bar:
        store = import_tokens(
            path,
            Path(args.out),
            format_of(path, args.format),
            grid=(rows, columns),
            codebook_size=codes,
            size=size,
            fingerprint=code,
            name=args.name,
            split=args.split,
            licence=args.licence,
            progress=lambda n, total, what: bar.update(n, what),
        )
    print("\n".join(describe(store)))
    for line in rejected_lines(store):
        print(f"rejected: {line}", file=sys.stderr)


def export_store(args: argparse.Namespace) -> None:
    from pathlib import Path

    from lvmlite.data.store import Store
    from lvmlite.exchange import drawn_sentences, export_parquet, export_sentences, format_of, stored_sentences
    from lvmlite.stores import check_split

    if args.n is not None and args.n < 1:
        raise ValueError("-n is at least 1")
    store, path = Store.open(args.store), Path(args.output)
    store.n_tokens  # noqa: B018 - raises for a store of pixels
    form = format_of(path, args.format)
    if args.split:
        check_split(store, args.split)
    if form == "parquet":
        print(f"{path}: {export_parquet(store, path, args.split):,} frames")
        return
    split = args.split or "train"
    check_split(store, split)
    if args.n is None:
        kinds = {kind for shard in store.select(split) for kind in shard.info.columns} - {"image"}
        if kinds:
            print(f"only the photos: {', '.join(sorted(kinds))} need sentences, drawn with -n N", file=sys.stderr)
        sentences = stored_sentences(store, split)
    else:
        config = recipe_of(store, args.recipe)
        if config is None:
            raise ValueError(f"{store.path}: no recipe.yaml beside it to draw by; name one with --recipe")
        sentences = drawn_sentences(stream_of(store, config, args.stage, split, args.seed), args.n)
    print(f"{path}: {export_sentences(path, form, sentences):,} sentences")


def recipe_of(store: Store, named: str | None) -> Recipe | None:
    """The recipe named, or the one of the run folder that the store lies in, if it lies in one."""
    from lvmlite.schema import load_recipe

    beside = store.path.parent / "recipe.yaml"
    return load_recipe(named) if named else load_recipe(beside) if beside.is_file() else None


def stage_of(config: Recipe, name: str | None) -> Any:
    """A stage by name, by default the last. Raises ValueError."""
    if name is None:
        return config.stages[-1]
    for stage in config.stages:
        if stage.name == name:
            return stage
    raise ValueError(f"no stage '{name}' in the recipe; there is {', '.join(stage.name for stage in config.stages)}")


def trained_stream(store: Store, config: Recipe, stage: str | None) -> Stream:
    """The stream that a stage is trained on: every store of the recipe, its seed, its batches."""
    from lvmlite.data.store import Store
    from lvmlite.data.stream import Stream

    chosen = stage_of(config, stage)
    others = [Store.open(path) for path in config.data.stores]
    stores = [store, *others] if config.data.sources else others
    return Stream(stores, "train", chosen.data, config.seed, chosen.train.batch_size)


def stream_of(store: Store, config: Recipe, stage: str | None, split: str, seed: int) -> Stream:
    """The stream of a stage over one store; what the split lacks is left out, as for validation."""
    from dataclasses import replace

    from lvmlite.data.mix import readable
    from lvmlite.data.stream import Stream

    chosen = stage_of(config, stage)
    data = chosen.data
    if split != "train":
        data = replace(data, sentences=readable(data.sentences, [store], split))
    return Stream([store], split, data, seed, chosen.train.batch_size)
