"""Reconstruction: what the tokenizer keeps of held-out pictures. It bounds every picture the model can draw.

In: the test rows of both stores. Out: PSNR by source and kind, and how the codebook is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.evaluate.bench import Bench
from lvmlite.evaluate.protocols.base import Progress, Protocol
from lvmlite.evaluate.results import Figure, Result, Table, Value
from lvmlite.metrics import METRICS, Metric, bootstrap
from lvmlite.recipe import Range


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

    def __init__(self, config: ReconstructionConfig):
        self.config = config

    def run(self, bench: Bench, progress: Progress) -> Result:
        c = self.config
        sources = c.sources or [name for name in bench.source_names() if bench.has("test", name)]
        jobs = [(source, kind) for source in sources for kind in (IMAGE, *bench.kinds(source))]
        result = Result(c.protocol)
        rows: list[list[Value]] = []
        photos = METRICS["psnr"]()
        for i, (source, kind) in enumerate(jobs):
            kinds = [] if kind == IMAGE else [kind]
            pool = bench.pool("test", source, kinds)
            clips = pool.clips(c.n_pictures, bench.rng("reconstruction", source, kind))
            frames = [clip[0] for clip in clips]
            groups: dict[str, Metric] = {}
            drawn = bench.decode(bench.codes(frames, kind))
            for frame, picture, true in zip(frames, drawn, bench.pictures(frames, kind), strict=True):
                groups.setdefault(frame.group, METRICS["psnr"]()).update(picture, true)
            total = METRICS["psnr"]()
            for metric in groups.values():
                total.merge(metric)
            if kind == IMAGE:
                photos.merge(total)
            psnr = total.compute()
            rows.append([source, _name(kind), psnr, *bootstrap(list(groups.values())), len(frames), len(groups)])
            result.values[f"psnr/{source}/{_name(kind)}"] = psnr
            progress(i + 1, len(jobs))
        result.values["psnr"] = photos.compute()
        columns = ["source", "kind", "PSNR in dB", "95% low", "95% high", "pictures", "groups"]
        note = "Held-out pictures through the tokenizer, against their pixels. 95% bootstrap over groups, at least two."
        result.tables.append(Table("reconstruction", "Reconstruction of held-out pictures", columns, rows, note))
        result.tables.append(_codebook(bench, result, sources))
        if c.n_shown:
            result.figures.append(_figure(bench, sources, c.n_shown))
        return result


def _codebook(bench: Bench, result: Result, sources: list[str]) -> Table:
    """Which codes all test pictures use, by kind (canonical variants)."""
    size = bench.tokenizer.codebook_size
    counts: dict[str, np.ndarray] = {}
    for shard in bench.tokens.shards:
        if shard.info.split == "test" and shard.info.source in sources and shard.info.n_frames:
            for kind in shard.info.columns:
                column = shard.column(kind).reshape(-1)
                counts[kind] = counts.get(kind, np.zeros(size, np.int64)) + np.bincount(column, minlength=size)
    rows: list[list[Value]] = []
    everything = sum(counts.values(), np.zeros(size, np.int64))
    for kind, count in {"all": everything, **counts}.items():
        p = count[count > 0] / max(1, count.sum())
        perplexity = float(np.exp(-(p * np.log(p)).sum()))
        used = float((count > 0).mean())
        rows.append([_name(kind), used, perplexity, int(count.sum())])
        if kind in ("all", IMAGE):
            result.values |= {f"codes used/{_name(kind)}": used, f"code perplexity/{_name(kind)}": perplexity}
    note = (
        f"Of {size} codes, over every test picture. Share used: codes that occur at all. Perplexity: exp of the "
        "entropy of how often each occurs; as many equally frequent codes would be as hard to guess."
    )
    return Table("codebook", "Use of the codebook", ["kind", "share used", "perplexity", "tokens"], rows, note)


def _figure(bench: Bench, sources: list[str], n: int) -> Figure:
    rows = []
    for source in sources:
        clips = bench.pool("test", source).clips(n, bench.rng("reconstruction", source, "shown"))
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
