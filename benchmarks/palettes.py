"""The ceiling of class maps by palette: named ones, and one found for the tokenizer, on maps it was not found on.

    python benchmarks/palettes.py TOKENIZER [TOKENIZER ...] --root DATA [--maps 64] [--steps 500] [--device auto]
                                  [--out benchmarks/results/palettes.json]

For each tokenizer folder and each set below the data root:
- streets: CamVid, 11 classes. Groups are 10 successive test frames of one drive, about 10 seconds.
- things: COCO's panoptic maps as classes, 133 of them. A group is a photo.
BSDS500's segmentations number the regions of one picture: they have no classes, so no palette of classes.

Measured on test maps: mIoU of maps drawn, encoded, decoded and read (the ceiling), with a 95% interval over groups;
the same of the classes that are there alone, where mIoU counts one that is only read as 0; of maps drawn and read
(render); and, on the same resamples of groups, the ceiling less that of the best named palette. The best is the one
best on "train", the train maps that the search held back, of the classes there: the test maps choose nothing. "spread"
and "orders" are where the search of `lvmlite.evaluate.palettes` may begin, "found" is its end. VOC's palette is
measured, but no search begins with it: its unlabelled is not black. Seconds are of the whole search, with all it may
begin with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

import lvmlite  # noqa: E402
from lvmlite.data.sources import build_source  # noqa: E402
from lvmlite.data.sources.base import Source  # noqa: E402
from lvmlite.data.sources.coco import CocoConfig  # noqa: E402
from lvmlite.data.sources.paired import PairedConfig  # noqa: E402
from lvmlite.devices import describe_machine, pick_device  # noqa: E402
from lvmlite.evaluate.ceiling import through  # noqa: E402
from lvmlite.evaluate.palettes import Found, Painting, fitted_maps, search_palette  # noqa: E402
from lvmlite.images import Geometry  # noqa: E402
from lvmlite.metrics.intervals import bootstrap  # noqa: E402
from lvmlite.metrics.segmentation import MeanIoU  # noqa: E402
from lvmlite.tasks import palettes  # noqa: E402
from lvmlite.tasks.segmentation import Segmentation, SegmentationConfig  # noqa: E402
from lvmlite.tokenizers import load_tokenizer  # noqa: E402
from lvmlite.tokenizers.base import Tokenizer  # noqa: E402

NAMED = ("distinct", *palettes.COLOURS)
FRAMES = 10  # of a group of CamVid
RESAMPLES = 1000


def sets(root: Path) -> dict[str, tuple[Source, int]]:
    """Name -> source and number of classes."""
    streets = PairedConfig(
        path=str(root / "camvid.tar"),
        image="images/{split}/{key}.jpg",
        partners={"classes": "labels/{split}/{key}.png"},
        first=1,
        ignore=[11],
        name="streets",
    )
    things = CocoConfig(
        path=str(root / "coco.tar"),
        instances="annotations.json",
        panoptic="panoptic.json",
        panoptic_masks="panoptic",
        annotations=["classes"],
        val=0.0,
        test=0.3,
        name="things",
    )
    return {"streets": (build_source(streets, 0), 11), "things": (build_source(things, 0), 133)}


def blocks(groups: list[str]) -> list[str]:
    """Names of frames, "test/0016E5_08123" -> that of the first of `FRAMES` successive ones of a drive."""
    drives: dict[str, list[str]] = {}
    for group in sorted(groups):
        drives.setdefault(group.partition("_")[0], []).append(group)
    first = {group: drive[i // FRAMES * FRAMES] for drive in drives.values() for i, group in enumerate(drive)}
    return [first[group] for group in groups]


def by_group(states: np.ndarray, groups: list[str]) -> list[MeanIoU]:
    """(N, 3, K + 1) states of maps -> one metric a group."""
    metrics = []
    for group in sorted(set(groups)):
        metrics.append(MeanIoU())
        metrics[-1].state = states[[other == group for other in groups]].sum(0)
    return metrics


def differences(a: list[MeanIoU], b: list[MeanIoU]) -> list[float]:
    """95% interval of a's mIoU less b's, both over the same resamples of groups."""
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=RESAMPLES).astype(np.float64)
    one, other = (np.einsum("rg,gsk->rsk", times, np.stack([m.state for m in some])) for some in (a, b))
    values = [MeanIoU.value(x) - MeanIoU.value(y) for x, y in zip(one, other, strict=True)]
    return [percent(v) for v in np.quantile(values, (0.025, 0.975))]


def ceiling(painting: Painting) -> float:
    return percent(MeanIoU.value(painting.states.sum(0)))


def percent(x: float) -> float:
    return round(100 * float(x), 2)


def measure(tokenizer: Tokenizer, found: Found, maps: np.ndarray, groups: list[str]) -> dict[str, Any]:
    """Palette -> its line of the table."""
    tables = {name: table for name, (table, _) in found.starts.items()} | {"found": found.table}
    train = {name: score for name, (_, score) in found.starts.items()} | {"found": found.score}
    if len(found.table) <= palettes.COLOURS["voc"] + 1:
        tables["voc"] = palettes.canonical("voc", len(found.table) - 1)
    paintings = {name: Painting.of(lambda x: through(tokenizer, x), maps, table) for name, table in tables.items()}
    metrics = {name: by_group(painting.states, groups) for name, painting in paintings.items()}
    named = max((name for name in found.starts if name in NAMED), key=lambda name: found.starts[name][1])
    lines: dict[str, Any] = {}
    for name, painting in paintings.items():
        line: dict[str, Any] = {
            "ceiling": ceiling(painting),
            "interval": [percent(v) for v in bootstrap(metrics[name], RESAMPLES)],
            "classes there": percent(painting.score),
            "render": ceiling(Painting.of(lambda x: x, maps, painting.table)),
            "train": percent(train[name]) if name in train else None,
        }
        if name != named:
            line[f"less {named}"] = round(line["ceiling"] - ceiling(paintings[named]), 2)
            line["interval of it"] = differences(metrics[name], metrics[named])
        lines[name] = line
    return lines


def study(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All that is measured of one tokenizer."""
    tokenizer = load_tokenizer(folder, pick_device(args.device))
    geometry = Geometry(size=tokenizer.image_size, fit="crop")
    out: dict[str, Any] = {
        "image_size": tokenizer.image_size,
        "tokens": tokenizer.n_tokens,
        "codebook_size": tokenizer.codebook_size,
        "fingerprints": {"code": tokenizer.code_fingerprint, "decoder": tokenizer.decoder_fingerprint},
        "geometry": asdict(geometry),
    }
    for name, (source, n_classes) in sets(args.root).items():
        task = Segmentation(SegmentationConfig(palette="distinct", n_classes=n_classes))
        maps, _, _ = fitted_maps([source], task, geometry, "train", args.maps)
        test, groups, _ = fitted_maps([source], task, geometry, "test")
        begun = time.perf_counter()
        found = search_palette(tokenizer, n_classes, maps, seed=args.seed, steps=args.steps)
        seconds = time.perf_counter() - begun
        groups = blocks(groups) if name == "streets" else groups
        lines = measure(tokenizer, found, test, groups)
        out[name] = {
            "train_maps": len(maps),
            "test_maps": len(test),
            "test_groups": len(set(groups)),
            "seconds": round(seconds, 1),
            "start": found.start,
            "kept": found.kept,
            "moves_kept": len(found.history),
            "history": [[step, percent(score)] for step, score in found.history],
            "colours": found.table[1:].tolist(),
            "palettes": lines,
        }
        print(f"\n{folder}, {name}: {len(test)} test maps, {seconds:.0f} s of search")
        for palette, line in lines.items():
            low, high = line["interval"]
            more = [f"{k} {v}" for k, v in line.items() if k.startswith(("less", "interval of"))]
            shown = f"{line['ceiling']:>7.2f} [{low:.2f}, {high:.2f}]  render {line['render']:.2f}"
            print(f"  {palette:<12}{shown}  train {line['train']}  {'  '.join(more)}", flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="the ceiling of class maps by palette")
    parser.add_argument("tokenizers", type=Path, nargs="+", metavar="TOKENIZER", help="tokenizer folders")
    parser.add_argument("--root", type=Path, required=True, help="the folder of camvid.tar and coco.tar")
    parser.add_argument("--maps", type=int, default=64, help="train maps of a search (default: 64)")
    parser.add_argument("--steps", type=int, default=500, help="moves of a search (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/palettes.json"))
    args = parser.parse_args()
    # keyed by what the weights are: folders are a machine's own
    results = [study(folder, args) for folder in args.tokenizers]
    about = {
        "benchmark": "palettes",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(pick_device(args.device)),
        "versions": {
            "lvmlite": lvmlite.__version__,
            "numpy": np.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
        "settings": {"maps": args.maps, "steps": args.steps, "seed": args.seed},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(about | {"tokenizers": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
