"""Next frames: does more context make the next frame likelier, and is a drawn one better than repeating the last?

In: held-out clips of one or more sources. Out: nats per token against the number of context frames, as LVM's figure
of perplexity over context length; PSNR of drawn frames beside the floor "repeat the last frame" and the ceiling.

The frame predicted is always the same, the last of the clip; context grows backwards from it. So the curve compares
contexts and not frames, and its differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from lvmlite.evaluate.bench import Bench, Frame
from lvmlite.evaluate.protocols.base import Progress, Protocol
from lvmlite.evaluate.results import Curve, Result, Table, Value
from lvmlite.generate.sampling import Sampling
from lvmlite.metrics import METRICS, Metric, bootstrap, mean_interval
from lvmlite.recipe import Range


@dataclass(frozen=True)
class NextFrameConfig:
    """
    Attributes:
        sources: default every source that has test clips long enough.
        context: most context frames; one less than the trained context if that is shorter.
        stride: of the frames taken, in kept frames.
        n_clips: of each source, whose likelihood is measured; every video once before any is used again.
        n_sampled: clips whose next frame is drawn as well, after 1 and after all context frames.
        temperature, top_k: of the drawn frames.
    """

    protocol: Literal["next_frame"] = "next_frame"
    sources: list[str] | None = None
    context: Annotated[int, Range(1)] = 7
    stride: Annotated[int, Range(1)] = 1
    n_clips: Annotated[int, Range(1)] = 32
    n_sampled: Annotated[int, Range(0)] = 16
    temperature: Annotated[float, Range(0)] = 1.0
    top_k: Annotated[int, Range(0)] = 100


class NextFrame(Protocol):
    """Raises ValueError if a source named has no test clip long enough; if none is named, a row says so."""

    def __init__(self, config: NextFrameConfig):
        self.config = config

    def run(self, bench: Bench, progress: Progress) -> Result:
        c = self.config
        context = min(c.context, bench.max_pictures - 1)
        need = context * c.stride + 1
        sources = c.sources
        if sources is None:
            sources = [name for name in bench.source_names() if bench.has("test", name, min_frames=need)]
        result = Result(c.protocol)
        lines: dict[str, list[tuple[float, float]]] = {}
        rows: list[list[Value]] = []
        differences: list[list[Value]] = []
        drawn: list[list[Value]] = []
        for i, source in enumerate(sources):
            pool = bench.pool("test", source, min_frames=need)
            clips = pool.clips(c.n_clips, bench.rng("next_frame", source), context + 1, c.stride)
            groups = [clip[-1].group for clip in clips]
            first, rest = _likelihood(bench, clips)
            per_group = {n: _by_group(rest[n], groups) for n in range(context + 1)}
            lines[source] = [(float(n), float(per_group[n].mean())) for n in range(context + 1)]
            for n in range(context + 1):
                head = float(np.mean(first[n])) if not np.isnan(first[n]).all() else None
                _, low, high = mean_interval(per_group[n])
                rows.append([source, n, head, lines[source][n][1], low, high, len(clips), len(per_group[n])])
            for less, more in sorted({(0, 1), (1, context), (0, context)}):
                if less < more:
                    gain, low, high = mean_interval(per_group[less] - per_group[more])
                    differences.append([source, less, more, gain, low, high, len(per_group[0])])
                    result.values |= {
                        f"{source}/gain {less} to {more}": gain,
                        f"{source}/gain {less} to {more}/low": low,
                    }
            result.values[f"{source}/nats/0"] = lines[source][0][1]
            result.values[f"{source}/nats/{context}"] = lines[source][-1][1]
            if c.n_sampled:
                drawn += self._drawn(bench, result, source, clips[: c.n_sampled], context)
            progress(i + 1, len(sources))
        if not sources:
            rows.append([f"no source has test clips of {need} frames", *[None] * 7])
        columns = ["source", "context frames", "first token", "rest", "95% low", "95% high", "clips", "videos"]
        result.tables.append(Table("next-frame", "Nats per token of the next frame", columns, rows, NOTE))
        if differences:
            columns = ["source", "with", "against", "gained", "95% low", "95% high", "videos"]
            title = "What context gains, in nats per token"
            result.tables.append(Table("next-frame-gain", title, columns, differences, "Paired differences; " + UNIT))
        if drawn:
            columns = ["source", "next frame", "PSNR in dB", "95% low", "95% high", "clips", "videos"]
            note = f"Against the true pixels. Temperature {c.temperature:g}, top-k {c.top_k}. " + UNIT_BOOTSTRAP
            result.tables.append(Table("next-frame-psnr", "Next frames drawn", columns, drawn, note))
        if lines:
            title, axes = "Likelihood of the next frame", ("frames of context", "nats per token")
            result.curves.append(Curve("next-frame", title, *axes, lines, "The first token is left out."))
        return result

    def _drawn(
        self, bench: Bench, result: Result, source: str, clips: list[list[Frame]], context: int
    ) -> list[list[Value]]:
        """PSNR of frames drawn after 1 and all context frames, of the floors and of the ceiling."""
        c = self.config
        codes = np.stack([bench.codes(clip) for clip in clips])
        truth = bench.pictures([clip[-1] for clip in clips])
        shown: dict[str, np.ndarray] = {}
        for n in sorted({1, context}):
            sampling = Sampling(c.temperature, c.top_k, seed=bench.sampling_seed("next_frame", source, n))
            given = codes[:, context - n : context].reshape(len(clips), -1)
            tokens = bench.engine.generate(np.zeros(0, np.int64), given, bench.size, sampling).tokens[:, 0]
            shown[f"sampled after {n} frame{'s' if n > 1 else ''}"] = bench.decode(tokens)
        shown["floor: repeat the last frame"] = bench.pictures([clip[-2] for clip in clips])
        shown["floor: repeat it, through the tokenizer"] = bench.decode(codes[:, -2])
        shown["ceiling: ground truth rec."] = bench.decode(codes[:, -1])
        rows: list[list[Value]] = []
        for name, pictures in shown.items():
            groups: dict[str, Metric] = {}
            for clip, picture, true in zip(clips, pictures, truth, strict=True):
                groups.setdefault(clip[-1].group, METRICS["psnr"]()).update(picture, true)
            total = METRICS["psnr"]()
            for metric in groups.values():
                total.merge(metric)
            rows.append([source, name, total.compute(), *bootstrap(list(groups.values())), len(clips), len(groups)])
            result.values[f"{source}/psnr/{name}"] = total.compute()
        return rows


UNIT = "95% t-intervals over videos, which need at least two."
UNIT_BOOTSTRAP = "95% bootstrap over videos, which needs at least two."
NOTE = (
    "The same frame is predicted from ever more of the frames before it. The first token of the picture is apart: "
    "without context nothing tells it. Means of each video first; " + UNIT
)


def _likelihood(bench: Bench, clips: list[list[Frame]]) -> tuple[np.ndarray, np.ndarray]:
    """Nats of the first token and of the rest of the last frame: two (context + 1, clips), by frames of context."""
    codes = np.stack([bench.codes(clip) for clip in clips])  # (clips, context + 1, S)
    first, rest = [], []
    for n in range(codes.shape[1]):
        string = codes[:, codes.shape[1] - 1 - n :].reshape(len(clips), -1)
        logp = bench.engine.logprobs(np.zeros(0, np.int64), string)[:, -bench.size :].astype(np.float64)
        first.append(-logp[:, 0])
        rest.append(-logp[:, 1:].mean(1))
    return np.stack(first), np.stack(rest)


def _by_group(values: np.ndarray, groups: list[str]) -> np.ndarray:
    """Mean of each group, groups in order of appearance."""
    return np.array([values[[g == name for g in groups]].mean() for name in dict.fromkeys(groups)])
