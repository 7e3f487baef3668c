"""Gallery: the pictures of a report's first screen. Drawn by seed, not chosen; nothing here is scored.

In: held-out frames and clips. Out: figures of prompt | query | answer | truth | truth through tokenizer. The worst
cases are the ladder's: they need its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, TypeVar

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.evaluate.bench import Bench, Frame, check_apart
from lvmlite.evaluate.protocols.base import Progress, Protocol
from lvmlite.evaluate.results import Cell, Figure, Result
from lvmlite.generate.sampling import Sampling
from lvmlite.recipe import Range

T = TypeVar("T")


@dataclass(frozen=True)
class GalleryConfig:
    """
    Attributes:
        source: of prompts and scored truth. kinds: of the three prompts; default the source's first three.
        query_kind: of "one prompt, three queries"; default the first of `kinds`.
        pairs: prompt pairs, as many as fit; the paper shows three.
        photo_sources: whose test photos are queries without truth; default every source of another type that has some.
        n_photos: of those, in all.
        video_sources: default every source with test clips of given + new frames.
        given, new: frames of "next frames", in all at most the trained context; n_clips: in all.
        temperature, top_k: of every answer.
    """

    protocol: Literal["gallery"] = "gallery"
    source: str = "world"
    kinds: list[str] | None = None
    query_kind: str | None = None
    pairs: Annotated[int, Range(1)] = 1
    photo_sources: list[str] | None = None
    n_photos: Annotated[int, Range(0)] = 3
    video_sources: list[str] | None = None
    given: Annotated[int, Range(1)] = 4
    new: Annotated[int, Range(1)] = 4
    n_clips: Annotated[int, Range(0)] = 4
    temperature: Annotated[float, Range(0)] = 1.0
    top_k: Annotated[int, Range(0)] = 100


class Ask(NamedTuple):
    """One completion: prompt frames, the query, and which kind follows which (the photo's is "image")."""

    prompts: list[Frame]
    query: Frame
    given: str
    wanted: str


class Gallery(Protocol):
    """Raises ValueError if a source or kind named is not there."""

    def __init__(self, config: GalleryConfig):
        self.config = config

    def run(self, bench: Bench, progress: Progress) -> Result:
        c = self.config
        known = bench.kinds(c.source)
        if not known:
            raise ValueError(f"source '{c.source}' has no test frames with annotations; the gallery needs some")
        kinds = list(known[:3] if c.kinds is None else c.kinds)
        query_kind = c.query_kind or next(iter(kinds), None)
        if wrong := [k for k in (*kinds, query_kind) if k not in known]:
            raise ValueError(f"source '{c.source}' has no kind {wrong[0]}; it has {', '.join(known)}")
        assert query_kind is not None
        rng = bench.rng("gallery", c.source)
        train, test = bench.pool("train", c.source, known), bench.pool("test", c.source, known)
        n_pairs = max(1, min(c.pairs, bench.max_pictures // 2 - 1))
        queries = test.draw(3, rng)
        prompts = [train.draw(n_pairs, rng) for _ in range(3)]
        photos = self._photos(bench)
        asks = {
            "one-query-three-prompts": [Ask(prompts[i % 3], queries[0], IMAGE, kind) for i, kind in enumerate(kinds)],
            "one-prompt-three-queries": [Ask(prompts[0], query, IMAGE, query_kind) for query in queries],
            "generative": [Ask(prompts[i % 3], queries[i % len(queries)], kind, IMAGE) for i, kind in enumerate(kinds)],
            "bundled-photos": [
                Ask(prompts[i % 3], photo, IMAGE, kind) for photo in photos for i, kind in enumerate(kinds)
            ],
        }
        drawn = self._answer(bench, [ask for some in asks.values() for ask in some])
        result, at = Result(c.protocol), 0
        for name, some in asks.items():
            answers, at = drawn[at : at + len(some)], at + len(some)
            if name != "bundled-photos":
                rows = [_row(bench, f"{name}-{i}", *pair) for i, pair in enumerate(zip(some, answers, strict=True))]
                result.figures.append(Figure(name, TITLES[name], _columns(n_pairs, name), rows, CAPTIONS[name]))
            elif some:
                result.figures.append(_photo_figure(bench, name, some, answers, kinds))
        progress(1, 2)
        if (figure := self._next_frames(bench)) is not None:
            result.figures.append(figure)
        progress(2, 2)
        return result

    def _photos(self, bench: Bench) -> list[Frame]:
        """Test photos of the other sources, in turn, each group once."""
        c = self.config
        names = c.photo_sources
        if names is None:
            known = bench.sources
            others = [n for n in bench.source_names() if type(known.get(n)) is not type(known.get(c.source))]
            names = [name for name in others if bench.has("test", name)]
        pools = [bench.pool("test", name) for name in names]
        drawn = [pool.draw(c.n_photos, bench.rng("gallery", "photos", pool.source)) for pool in pools]
        return _in_turn(drawn)[: c.n_photos]

    def _answer(self, bench: Bench, asks: Sequence[Ask]) -> np.ndarray:
        """(asks, H, W, 3) uint8: all completions in one call, for all strings are of one length."""
        c = self.config
        strings = []
        for ask in asks:
            pairs = np.stack((bench.codes(ask.prompts, ask.given), bench.codes(ask.prompts, ask.wanted)), axis=1)
            strings.append(np.concatenate((pairs.ravel(), bench.codes([ask.query], ask.given)[0])))
        sampling = Sampling(c.temperature, c.top_k, seed=bench.sampling_seed("gallery"))
        nothing = np.zeros(0, np.int64)
        return bench.decode(bench.engine.generate(nothing, np.stack(strings), bench.size, sampling).tokens[:, 0])

    def _next_frames(self, bench: Bench) -> Figure | None:
        c = self.config
        total = c.given + c.new
        if total > bench.max_pictures:
            raise ValueError(
                f"gallery: given {c.given} + new {c.new} exceed the context of {bench.max_pictures} pictures"
            )
        names = c.video_sources
        if names is None:
            names = [name for name in bench.source_names() if bench.has("test", name, min_frames=total)]
        clips = _in_turn([
            bench.pool("test", name, min_frames=total).clips(c.n_clips, bench.rng("gallery", "clips", name), total)
            for name in names
        ])[: c.n_clips]  # fmt: skip
        if not clips:
            return None
        codes = np.stack([bench.codes(clip) for clip in clips])
        sampling = Sampling(c.temperature, c.top_k, seed=bench.sampling_seed("gallery", "clips"))
        given = codes[:, : c.given].reshape(len(clips), -1)
        tokens = bench.engine.generate(np.zeros(0, np.int64), given, c.new * bench.size, sampling).tokens[:, 0]
        drawn = bench.decode(tokens.reshape(len(clips), c.new, bench.size))
        rec = bench.decode(codes[:, c.given :])
        rows = []
        for i, clip in enumerate(clips):
            pictures, name = bench.pictures(clip), f"next-frames-{i}"
            rows.append([
                bench.cell(f"{name}-given", pictures[: c.given], clip[0].source),
                bench.cell(f"{name}-answer", drawn[i], generated=True),
                bench.cell(f"{name}-truth", pictures[c.given :]),
                bench.cell(f"{name}-truth-rec", rec[i]),
            ])  # fmt: skip
        columns = ["given frames", "the model's continuation", "truth", "truth through tokenizer"]
        caption = f"Held-out clips: {c.given} frames given, {c.new} drawn one after the other. By seed, not chosen."
        return Figure("next-frames", "Next frames", columns, rows, caption)


TITLES = {
    "one-query-three-prompts": "One query, three prompts: three different answers",
    "one-prompt-three-queries": "One prompt, three queries",
    "generative": "From annotation to photo",
    "bundled-photos": "Real photos as queries",
}
CAPTIONS = {
    "one-query-three-prompts": "One held-out query; only the prompt tells what is asked. Drawn by seed, not chosen.",
    "one-prompt-three-queries": "The same prompt before three held-out queries. Drawn by seed, not chosen.",
    "generative": "Pairs turned round: a photo is drawn for a held-out annotation. By seed, not chosen.",
    "bundled-photos": "Held-out photos asked with prompts from other data: shown, not scored, for there is no truth.",
}


def _columns(n_pairs: int, name: str) -> list[str]:
    photo, annotation = "prompt photo", "prompt annotation"
    pair = [annotation, photo] if name == "generative" else [photo, annotation]
    return [*pair * n_pairs, "query", "answer", "truth", "truth through tokenizer"]


def _row(bench: Bench, name: str, ask: Ask, drawn: np.ndarray) -> list[Cell]:
    check_apart(ask.prompts, [ask.query])
    label = ask.wanted if ask.given == IMAGE else f"from {ask.given}"
    cells = []
    for i, frame in enumerate(ask.prompts):
        for kind in (ask.given, ask.wanted):
            cells.append(bench.cell(f"{name}-prompt-{i}-{kind}", bench.pictures([frame], kind)[0]))
    return [
        *cells,
        bench.cell(f"{name}-query", bench.pictures([ask.query], ask.given)[0]),
        bench.cell(f"{name}-answer", drawn, label, generated=True),
        bench.cell(f"{name}-truth", bench.pictures([ask.query], ask.wanted)[0]),
        bench.cell(f"{name}-truth-rec", bench.decode(bench.codes([ask.query], ask.wanted))[0]),
    ]


def _photo_figure(bench: Bench, name: str, asks: Sequence[Ask], drawn: np.ndarray, kinds: Sequence[str]) -> Figure:
    """A row a photo: the query, then an answer for each kind."""
    rows: list[list[Cell]] = []
    for i, (ask, answer) in enumerate(zip(asks, drawn, strict=True)):
        check_apart(ask.prompts, [ask.query])
        if i % len(kinds) == 0:
            rows.append([bench.cell(f"{name}-{i}-query", bench.pictures([ask.query])[0], ask.query.source)])
        rows[-1].append(bench.cell(f"{name}-{i}-answer", answer, generated=True))
    return Figure(name, TITLES[name], ["query", *kinds], rows, CAPTIONS[name])


def _in_turn(lists: Sequence[Sequence[T]]) -> list[T]:
    """The first of each, then the second of each, ..."""
    longest = max((len(some) for some in lists), default=0)
    return [some[i] for i in range(longest) for some in lists if i < len(some)]
