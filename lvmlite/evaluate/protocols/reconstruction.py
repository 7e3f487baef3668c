"""Reconstruction: what the tokenizer keeps of held-out pictures. It bounds every picture that a model can draw.

In: the pictures of a split and their codes. Out: PSNR, SSIM, LPIPS, rFID and KID by source and kind, and how the
codebook is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.evaluate import perceptual
from lvmlite.evaluate.bench import Frame, TokenizerBench
from lvmlite.evaluate.perceptual import ENOUGH, Likeness, Nets
from lvmlite.evaluate.protocols.base import Progress, Protocol
from lvmlite.evaluate.results import Figure, Result, Table, Value
from lvmlite.metrics import bootstrap
from lvmlite.recipe import Range

_BATCH = 64  # pictures in memory


@dataclass(frozen=True)
class ReconstructionConfig:
    """
    Attributes:
        sources: default every source that has test pictures.
        n_pictures: of each source and kind; every group once before any is used again.
        n_shown: photos of each source in the figure.
    """

    protocol: Literal["reconstruction"] = "reconstruction"
    sources: list[str] | None = None
    n_pictures: Annotated[int, Range(1)] = 48
    n_shown: Annotated[int, Range(0)] = 4


class Reconstruction(Protocol):
    """Raises ValueError if a source named has no test pictures."""

    needs_model = False

    def __init__(self, config: ReconstructionConfig):
        self.config = config

    def run(self, bench: TokenizerBench, progress: Progress) -> Result:
        c = self.config
        sources = c.sources or [name for name in bench.source_names() if bench.has(bench.split, name)]
        jobs = [(source, kind) for source in sources for kind in (IMAGE, *bench.kinds(source, bench.split))]
        nets = perceptual.open_nets(bench.device)
        result = Result(c.protocol)
        rows: list[list[Value]] = []
        counts: dict[str, np.ndarray] = {}
        photos = Likeness(nets)
        for i, (source, kind) in enumerate(jobs):
            pool = bench.pool(bench.split, source, [] if kind == IMAGE else [kind])
            clips = pool.clips(c.n_pictures, bench.rng("reconstruction", source, kind))
            likeness = Likeness(nets)
            for frames in _batches([clip[0] for clip in clips]):
                codes = bench.codes(frames, kind)
                _count(counts, kind, codes, bench.tokenizer.codebook_size)
                true = bench.pictures(frames, kind)
                likeness.update(bench.decode(codes), true, [frame.group for frame in frames])
            if kind == IMAGE:
                photos.merge(likeness, source)
            values = {name: likeness.of(name) for name in likeness.groups}
            values |= {"rfid": likeness.fid(), "kid": likeness.kid(bench.rng("reconstruction", "kid"))}
            groups = list(likeness.groups["psnr"].values())
            psnr, *others = values.values()
            rows.append([source, _name(kind), psnr, *bootstrap(groups), *others, likeness.n, len(groups)])
            result.values |= _measured(values, f"/{source}/{_name(kind)}")
            progress(i + 1, len(jobs))
        result.values |= _measured({**{name: photos.of(name) for name in photos.groups}, "rfid": photos.fid()})
        note = _note(bench, nets, [int(str(row[-2])) for row in rows])
        measured = [
            i for i, name in enumerate(COLUMNS) if name not in BY_NETS or any(row[i] is not None for row in rows)
        ]
        columns, rows = [COLUMNS[i] for i in measured], [[row[i] for i in measured] for row in rows]
        result.tables.append(Table("reconstruction", "Reconstruction of held-out pictures", columns, rows, note))
        result.tables.append(_codebook(bench, result, _stored(bench, sources) if bench.tokens else counts))
        if c.n_shown:
            result.figures.append(_figure(bench, sources, c.n_shown))
        return result


COLUMNS = ["source", "kind", "PSNR in dB", "95% low", "95% high", "SSIM", "LPIPS", "rFID", "KID", "pictures", "groups"]
BY_NETS = ("LPIPS", "rFID", "KID")  # left out where nothing could measure them


def _batches(frames: list[Frame]) -> Iterator[list[Frame]]:
    for at in range(0, len(frames), _BATCH):
        yield frames[at : at + _BATCH]


def _measured(values: dict[str, float | None], where: str = "") -> dict[str, Value]:
    return {f"{name}{where}": value for name, value in values.items() if value is not None}


def _note(bench: TokenizerBench, nets: Nets, n_pictures: list[int]) -> str:
    held_out = "Held-out pictures" if bench.split == "test" else f"Pictures of {bench.split}"
    parts = [f"{held_out} through the tokenizer, against their pixels. 95% bootstrap over groups, at least two."]
    if nets.lpips is None:
        parts.append(f"No LPIPS, its weights are not here: {perceptual.how_to_add('LPIPS')}.")
    else:
        parts.append("LPIPS by AlexNet: lower is better.")
    if nets.inception is None:
        parts.append(f"No rFID or KID, their weights are not here: {perceptual.how_to_add('rFID')}.")
    elif min(n_pictures, default=0) < ENOUGH:
        parts.append(
            f"rFID grows as pictures get fewer: below {ENOUGH:,} compare it at equal numbers only, and never with a "
            "published one. KID has no such bias, but noise: it may be below 0."
        )
    return " ".join(parts)


def _count(counts: dict[str, np.ndarray], kind: str, codes: np.ndarray, size: int) -> None:
    counts[kind] = counts.get(kind, np.zeros(size, np.int64)) + np.bincount(codes.reshape(-1), minlength=size)


def _stored(bench: TokenizerBench, sources: list[str]) -> dict[str, np.ndarray]:
    """How often all pictures of the split use each code, by kind (canonical variants)."""
    counts: dict[str, np.ndarray] = {}
    assert bench.tokens is not None
    for shard in bench.tokens.select(bench.split, sources):
        for kind in shard.info.columns if shard.info.n_frames else ():
            _count(counts, kind, shard.column(kind), bench.tokenizer.codebook_size)
    return counts


def _codebook(bench: TokenizerBench, result: Result, counts: dict[str, np.ndarray]) -> Table:
    size = bench.tokenizer.codebook_size
    rows: list[list[Value]] = []
    everything = sum(counts.values(), np.zeros(size, np.int64))
    for kind, count in {"all": everything, **counts}.items():
        p = count[count > 0] / max(1, count.sum())
        perplexity = float(np.exp(-(p * np.log(p)).sum()))
        used = float((count > 0).mean())
        rows.append([_name(kind), used, perplexity, int(count.sum())])
        if kind in ("all", IMAGE):
            result.values |= {f"codes used/{_name(kind)}": used, f"code perplexity/{_name(kind)}": perplexity}
    pictures = f"every picture of {bench.split}" if bench.tokens else "the pictures measured above"
    note = (
        f"Of {size} codes, over {pictures}. Share used: codes that occur at all. Perplexity: exp of the "
        "entropy of how often each occurs; as many equally frequent codes would be as hard to guess."
    )
    return Table("codebook", "Use of the codebook", ["kind", "share used", "perplexity", "tokens"], rows, note)


def _figure(bench: TokenizerBench, sources: list[str], n: int) -> Figure:
    rows = []
    for source in sources:
        clips = bench.pool(bench.split, source).clips(n, bench.rng("reconstruction", source, "shown"))
        frames = [clip[0] for clip in clips]
        decoded = bench.decode(bench.codes(frames))
        cells = []
        for i, (picture, rec) in enumerate(zip(bench.pictures(frames), decoded, strict=True)):
            cells += [
                bench.cell(f"reconstruction-{source}-{i}", picture, source),
                bench.cell(f"reconstruction-{source}-{i}-rec", rec, source),
            ]
        rows.append(cells)
    caption = "Held-out photos, each beside what its codes decode to. Drawn by seed, every photo or scene once first."
    return Figure("reconstructions", "Reconstructions", ["photo", "reconstruction"] * n, rows, caption)


def _name(kind: str) -> str:
    return "photo" if kind == IMAGE else kind
