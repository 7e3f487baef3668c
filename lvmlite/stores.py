"""What is in a token store: its counts, what a mix makes of them, and sentences drawn from it as pictures.

In: a store, and the mix of a stage. Out: lines for the terminal, and a contact sheet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lvmlite.data.build import IMAGE, read_rejects
from lvmlite.data.mix import CYCLE
from lvmlite.data.store import Shard, Store, check_codes
from lvmlite.data.stream import Stream, StreamConfig
from lvmlite.images import grid
from lvmlite.tokenizers.base import Tokenizer, decode_tokens

LEGIBLE = 96  # pixels: the width of a label, and the height of one that is broken into lines


def describe(store: Store) -> list[str]:
    """What a store holds: tokens, samples by source and split, kinds, licences, rejects by reason."""
    info = store.info
    lines = [f"{store.path}: {info.content}, {info.geometry['size']} px, {info.geometry['fit']}"]
    pictures = sum(shard.n_frames * sum(shard.columns.values()) for shard in info.shards)
    if info.content == "tokens":
        lines.append(
            f"  {pictures * store.n_tokens:,} tokens: {pictures:,} pictures of {store.n_tokens}; "
            f"{info.codebook_size} codes, tokenizer {info.code_fingerprint}"
        )
    else:
        lines.append(f"  {pictures:,} pictures")
    rows: dict[tuple[str, str, str], list[int]] = {}
    for shard in info.shards:
        kinds = ", ".join(kind if n == 1 else f"{kind} x {n}" for kind, n in shard.columns.items())
        entry = rows.setdefault((shard.source, shard.split, kinds), [0, 0])
        entry[0] += shard.n_samples
        entry[1] += shard.n_frames
    width = max([len(source) for source, _, _ in rows], default=0)
    for (source, split, kinds), (samples, frames) in sorted(rows.items()):
        lines.append(f"  {source:<{width}} {split:<5} {samples:>11,} samples {frames:>13,} frames   {kinds}")
    for source, about in info.sources.items():
        lines.append(f"  licence of {source}: {about.get('licence', 'unknown')}")
    rejects = read_rejects(store.path)
    for (source, reason), n in Counter((r["source"], r["reason"]) for r in rejects).most_common():
        lines.append(f"  rejected of {source}: {n:,} x {reason}")
    return lines


def describe_mix(stream: Stream) -> list[str]:
    """What a mix makes of a store: of each sentence type its slots, its items and how long they last."""
    count = np.asarray(stream.counts)
    useful = count * np.array([n * k for n, k in zip(stream.length, stream.per_slot)])
    lines = [f"{'sentence':<40} {'tokens':>7} {'slots':>6} {'pictures':>9} {'items':>13}   batches an epoch"]
    for i, t in enumerate(stream.types):
        items = t.items_per_sentence * stream.per_slot[i] * stream.batch_size * count[i] / CYCLE
        lines.append(
            f"{t.name:<40} {useful[i] / useful.sum():>7.1%} {count[i]:>6} {t.n_pictures:>9} {t.n_items:>13,}"
            f"   {t.n_items / items:,.1f}"
        )
        lines += [f"{'':<40} left out: {n:,} x {reason}" for reason, n in t.left_out.items()]
    lines.append(f"padding {stream.padding:.1%} of positions; slots are of {CYCLE:,}")
    return lines


def default_mix(store: Store, split: str) -> StreamConfig:
    """A mix that shows what a store holds where no recipe tells: everything of few pictures, then whole samples."""
    from lvmlite.data.mix import readable
    from lvmlite.data.sentences import PairsConfig, VideoConfig, WholeConfig

    some = [PairsConfig(pairs=4), VideoConfig(pictures=8, sampling="uniform"), WholeConfig(pictures=8)]
    found = readable(some, [store], split)
    if not found:
        raise ValueError(f"{store.path}: no sample of at most 8 pictures in the {split} split")
    return StreamConfig(found, pictures=8)


def preview(
    stream: Stream, n: int, tokenizer: Tokenizer, scale: int | None = None, batch: int | None = None
) -> np.ndarray:
    """A contact sheet of sentences drawn from a mix, decoded back: uint8 RGB. A row is a sentence, a label its type.

    Args:
        n: sentences, of all the types in turn, each type's first; or with `batch` the first n of that batch.
        tokenizer: of the store.
        scale: each pixel becomes scale x scale; None: until a picture is wide enough for its label.

    Raises:
        ValueError: a file of the store is damaged.
    """
    rows: list[list[np.ndarray | None]] = []
    names, cells = [], list[list[str]]()
    drawn = _first_of_each(stream, n) if batch is None else _first_of_batch(stream, n, batch)
    for t, columns, codes in drawn:
        rows.append(list(decode_tokens(tokenizer, codes)))
        names.append(stream.types[t].name.replace("/", "/ "))  # may be broken there
        cells.append([_label(stream.columns.names[c]) for c in columns])
    scale = scale or -(-LEGIBLE // tokenizer.image_size)
    return grid(rows, scale=scale, row_labels=names, cell_labels=cells)


Drawn = list[tuple[int, np.ndarray, np.ndarray]]  # type, columns (pictures,), codes (pictures, S) of each sentence


def _first_of_batch(stream: Stream, n: int, index: int) -> Drawn:
    """The first n sentences of a batch, in the order of its slots."""
    found = []
    for group in stream.sentences(index)[1]:
        codes = stream.columns.gather(group.columns, group.rows)
        check_codes(codes, stream.bos, f"batch {index}")
        slots = np.repeat(group.mine, len(codes) // len(group.mine))
        found += [(slot, group.type, c, some) for slot, c, some in zip(slots, group.columns, codes, strict=True)]
    return [(t, columns, codes) for _, t, columns, codes in sorted(found, key=lambda entry: entry[0])[:n]]


def _first_of_each(stream: Stream, n: int) -> Drawn:
    """n sentences: the types in turn, in the order of use."""
    found: dict[int, Drawn] = {t: [] for t in range(len(stream.types))}
    each = -(-n // len(found))
    for index in range(1 + each * CYCLE // stream.batch_size):
        for group in stream.sentences(index)[1]:
            codes = stream.columns.gather(group.columns, group.rows)
            check_codes(codes, stream.bos, f"a sentence '{stream.types[group.type].name}'")
            found[group.type] += [(group.type, c, some) for c, some in zip(group.columns, codes, strict=True)]
        if all(len(sentences) >= each for sentences in found.values()):
            break
    turns = [sentences[i] for i in range(each) for sentences in found.values() if i < len(sentences)]
    return sorted(turns[:n], key=lambda entry: entry[0])


def _label(name: tuple[Shard, str, int]) -> str:
    shard, kind, variant = name
    shown = kind if variant == 0 else f"{kind}.{variant}"
    return f"{shard.info.source} {shown}" if kind == IMAGE else shown


def check_split(store: Store, split: str) -> None:
    """Raises ValueError if a store has no such split."""
    there: Sequence[str] = sorted({shard.split for shard in store.info.shards})
    if split not in there:
        raise ValueError(f"{store.path}: no {split} split; there is {', '.join(there)}")
