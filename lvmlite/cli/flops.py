"""`lvmlite flops`: what a preset costs per picture and per token, and what a recipe costs from its first step to its
last, beside the same with random sequences in stage 1. All of it is arithmetic; nothing is run.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lvmlite.cli.base import command

if TYPE_CHECKING:
    from lvmlite.model.architecture import Architecture
    from lvmlite.schema import Recipe, StageConfig

PAPER_TOKENS = 125_112 * 8192 * 256  # LVM-Lite's stage 1, Table 7

EPILOG = """\
examples:
  lvmlite flops                                   every preset at 256 and 4096 positions, beside the paper's figures
  lvmlite flops 300m 1b --context 4096 16384      two presets at other contexts
  lvmlite flops 1b --tokens 262e9 --gpus 64       and what it takes to train on so many tokens
  lvmlite flops paper/300m --mfu 0.5              a recipe, stage by stage, beside the random-sequence baseline
  lvmlite flops paper/300m model.preset=3b        any value of the recipe changed

how it counts:
  forward    2 N L + 4 layers dim L^2 FLOPs for L positions; N = parameters but the embedding table
  training   3 forwards. MFU is the share of the peak that these reach: what a step needs, not what it executes
  executed   what is computed again for the backward (train.activations) on top: up to 4 forwards. Its share is the HFU
  attention  in full, as the paper counts; --causal counts the half that is needed"""


def add_flops_command(group: Any) -> None:
    """flops."""
    made = command(
        group, "flops", show_flops, "parameters, FLOPs and hours of a preset or a recipe, by arithmetic", EPILOG
    )
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument(
        "what",
        nargs="*",
        metavar="PRESET or RECIPE",
        help="presets (default: all), or one recipe: a YAML file or the name of one that comes with lvmlite, and "
        "key=value to change it",
    )
    made.add_argument("--preset", help="the same as naming it")
    made.add_argument("--context", type=int, nargs="+", metavar="L", help="positions, of presets (default: 256 4096)")
    made.add_argument(
        "--tokens",
        type=float,
        metavar="N",
        help="of presets: what training on N tokens takes (default with --mfu, --gpus or --device: 262e9, the "
        "paper's stage 1)",
    )
    made.add_argument("--codebook-size", type=int, default=8192, metavar="K", help="of presets (default: 8192)")
    made.add_argument("--mfu", type=float, help="share of the peak that training reaches (default: 0.4)")
    made.add_argument("--gpus", type=int, metavar="N", help="devices (default: 8)")
    made.add_argument(
        "--device",
        metavar="NAME",
        help="whose peak of dense bf16 products: h100 (default), h200, a100, 'rtx 4090', ...; or a number of TFLOP/s",
    )
    made.add_argument("--causal", action="store_true", help="count the half of attention that is needed")
    made.add_argument(
        "--ratio",
        type=float,
        metavar="R",
        help="of recipes: seconds a token at stage 2's context over stage 1's, measured",
    )


def show_flops(args: argparse.Namespace) -> None:
    from lvmlite.model.architecture import PRESETS
    from lvmlite.schema import load_recipe

    settings = [word for word in args.what if "=" in word]
    names = [word for word in args.what if "=" not in word] + ([args.preset] if args.preset else [])
    hours = [args.mfu, args.gpus, args.device] != [None] * 3  # are asked for
    args.mfu, args.gpus, args.device = (
        0.4 if args.mfu is None else args.mfu,
        8 if args.gpus is None else args.gpus,
        args.device or "h100",
    )
    check(args)
    if len(names) == 1 and not args.preset and names[0] not in PRESETS:
        try:
            config = load_recipe(names[0], settings)
        except ValueError as error:
            if str(error).startswith("no recipe"):
                raise ValueError(f"{error}; the presets are {', '.join(PRESETS)}") from None
            raise
        show_recipe(config, names[0], args)
        return
    if settings:
        raise ValueError(f"{settings[0]} changes a recipe: name one recipe and no preset")
    if unknown := [name for name in names if name not in PRESETS]:
        raise ValueError(f"no preset '{unknown[0]}'; the presets are {', '.join(PRESETS)}")
    if hours and args.tokens is None:
        args.tokens = float(PAPER_TOKENS)
    show_presets(names or list(PRESETS), args)


def check(args: argparse.Namespace) -> None:
    """Raises ValueError for a number that cannot be."""
    bounds = {"--mfu": (args.mfu, 0 < args.mfu <= 1, "a share of the peak, above 0 and at most 1")}
    bounds["--gpus"] = (args.gpus, args.gpus >= 1, "at least 1")
    bounds["--context"] = (args.context, not args.context or min(args.context) >= 1, "at least 1 position")
    bounds["--tokens"] = (args.tokens, args.tokens is None or args.tokens > 0, "more than 0")
    bounds["--ratio"] = (args.ratio, args.ratio is None or args.ratio > 0, "more than 0")
    bounds["--codebook-size"] = (args.codebook_size, args.codebook_size >= 1, "at least 1")
    for name, (value, fine, want) in bounds.items():
        if not fine:
            raise ValueError(f"{name} {value}: must be {want}")
    peak(args)


def peak(args: argparse.Namespace) -> float:
    """FLOP/s of a device. Raises ValueError if its peak is not known."""
    from lvmlite.train.meter import PEAK_FLOPS

    known = {name.lower(): number for name, number in PEAK_FLOPS.items()}
    number = known.get(args.device.lower())
    try:
        number = number or float(args.device) * 1e12
    except ValueError:
        number = 0.0
    if not number > 0:
        raise ValueError(f"--device {args.device}: one of {', '.join(known)}, or a peak in TFLOP/s, as in 312")
    return number


# --- presets


def show_presets(names: list[str], args: argparse.Namespace) -> None:
    from lvmlite.model.architecture import ModelConfig
    from lvmlite.model.flops import PUBLISHED_TFLOPS, forward_flops

    contexts = args.context or [256, 4096]
    columns = ["preset", "parameters"]
    for n in contexts:
        columns += [f"{n}:\nTFLOP", *(["\npaper"] if n in (256, 4096) else []), "GFLOP\na token"]
    several = len(contexts) > 1
    columns += [f"a token\n{contexts[-1]} / {contexts[0]}"] if several else []
    rows = []
    for name in names:
        arch = ModelConfig(name, max_seq_len=max(contexts)).resolve(args.codebook_size)
        costs = {n: forward_flops(arch, n, args.causal) for n in contexts}
        row = [name, f"{arch.n_parameters / 1e6:,.1f} M"]
        for n, cost in costs.items():
            published = PUBLISHED_TFLOPS.get(name, {}).get(n)
            row += [
                f"{cost / 1e12:.3g}",
                *([str(published or "-")] if n in (256, 4096) else []),
                f"{cost / n / 1e9:.3g}",
            ]
        ends = costs[contexts[-1]] / contexts[-1], costs[contexts[0]] / contexts[0]
        rows.append([*row, *([f"{ends[0] / ends[1]:.2f}x"] if several else [])])
    show(
        f"Forward of one sequence, by its length ({args.codebook_size:,} codes, {attention(args)})",
        columns,
        rows,
        "paper: LVM-Lite, Table 4, which gives one digit after the point.",
    )
    if args.tokens:
        show_training(names, contexts, args)


def show_training(names: list[str], contexts: list[int], args: argparse.Namespace) -> None:
    from lvmlite.model.architecture import ModelConfig
    from lvmlite.model.flops import device_hours, imagenet_epochs, training_flops

    rows = []
    for name in names:
        arch = ModelConfig(name, max_seq_len=max(contexts)).resolve(args.codebook_size)
        for n in contexts:
            flops = training_flops(arch, n, args.tokens, args.causal)
            hours = device_hours(flops, peak(args), args.mfu)
            rows.append([name, f"{n}", short(flops), rounded(hours), clock(hours / args.gpus)])
    tokens = f"{short(args.tokens)} tokens, {short(args.tokens / 256)} pictures of 256"
    show(
        f"Training on {tokens} ({imagenet_epochs(args.tokens):,.1f} ImageNet epochs)",
        ["preset", "context", "FLOPs", f"{device(args)}-hours", f"on {args.gpus}"],
        rows,
        f"Hours by arithmetic: {machine(args)}.",
    )


# --- recipes


def show_recipe(config: Recipe, name: str, args: argparse.Namespace) -> None:
    from lvmlite.model.flops import training_flops

    if not config.stages:
        raise ValueError(f"{name}: has no stages, so no decoder to train")
    s, codebook_size = codes_of(config)
    arch = config.model.resolve(codebook_size)
    first, last = config.stages[0], config.stages[min(1, len(config.stages) - 1)]
    rows, flops, pictures = [], 0.0, 0.0
    for stage in config.stages:
        rows.append([stage.name, *cost(arch, stage, stage.data.pictures, s, args)])
        flops += training_flops(arch, stage.data.pictures * s, tokens_of(stage, s), args.causal)
        pictures += tokens_of(stage, s) / s
    if len(rows) > 1:
        rows.append(total("in all", flops, pictures, s, args))
    shorter = first.data.pictures < last.data.pictures
    if shorter:
        rows.append([""] * 9)
        rows.append([f"{first.name} as random", *cost(arch, first, last.data.pictures, s, args)])
        ours, theirs = (
            training_flops(arch, n * s, tokens_of(first, s), args.causal)
            for n in (first.data.pictures, last.data.pictures)
        )
        rows.append(total("in all as random", flops - ours + theirs, pictures, s, args))
    show(
        f"{config.name}: {arch.n_parameters / 1e6:,.1f} M parameters, {s} tokens a picture, {codebook_size:,} codes",
        ["stage", "context", "steps x batch", "tokens", "pictures", "ImageNet\nepochs", "FLOPs", "executed\n(HFU)",
         f"{device(args)}-hours", f"on {args.gpus}"],
        rows,
        f"Hours by arithmetic: {machine(args)}; {attention(args)}.\n"
        "Executed: with what train.activations computes twice.",
    )  # fmt: skip
    if shorter:
        show_speedups(config, arch, s, args)


def cost(arch: Architecture, stage: StageConfig, pictures: int, s: int, args: argparse.Namespace) -> list[str]:
    """The cells of a stage, in sentences of so many pictures and at equal tokens."""
    from lvmlite.model.flops import device_hours, executed_flops, imagenet_epochs, training_flops

    train, tokens, context = stage.train, tokens_of(stage, s), pictures * s
    flops = training_flops(arch, context, tokens, args.causal)
    executed = executed_flops(arch, context, tokens, train.activations, args.causal)
    hours = device_hours(flops, peak(args), args.mfu)
    batch = train.batch_size * stage.data.pictures / pictures
    return [
        f"{context:,}",
        f"{train.steps:,} x {batch:,.5g}",
        short(tokens),
        short(tokens / s),
        rounded(imagenet_epochs(tokens, s)),
        short(flops),
        f"{executed / flops:.2f}x ({args.mfu * executed / flops:.0%})",
        rounded(hours),
        clock(hours / args.gpus),
    ]


def total(name: str, flops: float, pictures: float, s: int, args: argparse.Namespace) -> list[str]:
    from lvmlite.model.flops import device_hours, imagenet_epochs

    hours = device_hours(flops, peak(args), args.mfu)
    words = [name, "", "", short(pictures * s), short(pictures), rounded(imagenet_epochs(pictures * s, s))]
    return [*words, short(flops), "", rounded(hours), clock(hours / args.gpus)]


def show_speedups(config: Recipe, arch: Architecture, s: int, args: argparse.Namespace) -> None:
    """Single images against random sequences at equal tokens; a speed-up says which."""
    from lvmlite.model.flops import PUBLISHED_SPEEDUP, forward_flops, recipe_speedup

    first, second = config.stages[:2]
    tokens = tokens_of(first, s), sum(tokens_of(stage, s) for stage in config.stages[1:])
    contexts = [stage.data.pictures * s for stage in (first, second)]
    a, b = (forward_flops(arch, n, args.causal) / n for n in contexts)
    ratios = {"FLOPs alone": b / a}
    if args.ratio:
        ratios[f"the clock, with r = {args.ratio:g} as measured"] = args.ratio
    published = PUBLISHED_SPEEDUP.get(config.model.preset)
    if published:
        ratios[f"the clock, if the paper's {published}x were r"] = published
    rows = [
        [name, f"{r:.2f}x", f"{recipe_speedup(r, *tokens):.2f}x", f"{recipe_speedup(r, 2, 1):.2f}x"]
        for name, r in ratios.items()
    ]
    said = (
        f'The paper\'s {published}x is of its "training wall clock", which may contain stage 2.\n' if published else ""
    )
    show(
        f"Single images against random sequences in stage 1, at equal tokens ({contexts[0]:,} against {contexts[1]:,})",
        ["faster by", "a token of\nstage 1 (r)", "this whole\nrecipe", "200 + 100\nepochs"],
        rows,
        f"{said}A whole recipe of T1 + T2 tokens gains (T1 + T2) r / (T1 + T2 r): at 200 + 100, 3 r / (2 + r).",
    )


def tokens_of(stage: StageConfig, s: int) -> float:
    return float(stage.train.steps * stage.train.batch_size * stage.data.pictures * s)


def codes_of(config: Recipe) -> tuple[int, int]:
    """Tokens of a picture, and codes: of the recipe's tokenizer if it is there, else of the net that it describes."""
    from pathlib import Path

    from lvmlite.tokenizers import load_tokenizer
    from lvmlite.tokenizers.quantizers import build_quantizer

    folder = config.tokenizer.path or config.tokenizer.init
    if folder and (Path(folder) / "config.json").is_file():
        tokenizer = load_tokenizer(folder)
        return tokenizer.n_tokens, tokenizer.codebook_size
    return config.tokens_per_picture, build_quantizer(config.tokenizer.net.quantizer).codebook_size


# --- words


def show(title: str, columns: list[str], rows: list[list[str]], note: str) -> None:
    """A title, a table with its numbers on the right, a note; 160 columns wide where no terminal says otherwise."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", vertical="bottom")
    for row in rows:
        table.add_row(*row)
    console.print(title, style="bold")
    console.print(table)
    console.print(note + "\n")


def attention(args: argparse.Namespace) -> str:
    return "attention by its causal half" if args.causal else "attention in full, as the paper counts"


def machine(args: argparse.Namespace) -> str:
    return f"{args.gpus} x {device(args)} of {peak(args) / 1e12:g} TFLOP/s at MFU {args.mfu:.0%}"


def device(args: argparse.Namespace) -> str:
    return "device" if args.device.replace(".", "").isdigit() else args.device.upper()


def short(n: float) -> str:
    """262,379,077,632 -> "262.4 G"."""
    for unit, scale in ((" Z", 1e21), (" E", 1e18), (" P", 1e15), (" T", 1e12), (" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if n >= scale:
            return f"{n / scale:.4g}{unit}"
    return f"{n:.4g}"


def rounded(n: float) -> str:
    return "< 0.01" if n < 0.01 else f"{n:,.2g}" if n < 10 else f"{n:,.0f}"


def clock(hours: float) -> str:
    """0.01 -> "36 s", 3 -> "3.0 h", 100 -> "4.2 days"."""
    if hours < 1:
        return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"
