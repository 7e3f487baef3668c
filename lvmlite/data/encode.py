"""Encoding drawn parts: shards of pixels -> shards of tokens of the same rows.

In: a tokenizer and what was drawn of a part. Out: the part in a store of tokens, and its record. `Meter` counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lvmlite.data.draw import Tally
from lvmlite.data.parts import Drawn, Progress, Record, fingerprint, graft, mark, write_record
from lvmlite.data.store import Shard, ShardInfo, ShardWriter, StoreInfo
from lvmlite.tokenizers.base import Tokenizer, encode_pictures

CHUNK_BYTES = 2**25  # of pictures read at once to be encoded
SHOWN = 0.2  # seconds between two reports of progress


@dataclass
class Meter:
    """Progress of a build in pictures. The total of what is still to be drawn is judged from the items gone through.

    Attributes:
        done: pictures; total: 0 = not known yet; what: in words.
        before: pictures that were there; items: of all the parts to draw.
    """

    progress: Progress | None
    done: int = 0
    total: int = 0
    items: int = 0
    what: str = ""

    def __post_init__(self) -> None:
        self.before, self.shown = self.done, 0.0

    def watch(self, tally: Tally) -> None:
        """Judge the total by what was drawn, and show it."""
        pictures, items = tally.counts
        if items:
            self.total = self.before + round(pictures * max(self.items, items) / items)
        self.show(self.done)

    def follow(self, tally: Tally) -> None:
        """Likewise; what was drawn is what is done."""
        self.done = self.before + int(tally.counts[0])
        self.watch(tally)

    def show(self, done: int, what: str = "") -> None:
        self.done, self.what = done, what or self.what
        if self.progress and (what or time.monotonic() - self.shown > SHOWN):
            self.shown = time.monotonic()
            self.progress(done, max(self.total, done) if self.total else 0, self.what)


@dataclass
class Encoder:
    """Pixel shards -> token shards of the same rows.

    Args:
        tokenizer: on its device; out: the store of tokens.
        batch: pictures encoded together; fixed, for codes do not depend on who builds. bf16: under autocast.
    """

    tokenizer: Tokenizer
    out: Path
    batch: int
    bf16: bool

    def __post_init__(self) -> None:
        self.code = self.tokenizer.code_fingerprint
        precision = "bf16" if self.bf16 else "fp32"
        self.settings = {"device": self.tokenizer.device.type, "precision": precision, "batch": self.batch}

    def check(self, where: Path, size: int) -> None:
        """Raises ValueError if pictures are not of the tokenizer's size."""
        if size != self.tokenizer.image_size:
            raise ValueError(f"{where}: pictures of {size} px, the tokenizer takes {self.tokenizer.image_size}")

    def base(self, drawn: str) -> str:
        """Fingerprint of what decides the tokens of a part, from that of its pixels."""
        return fingerprint(self.code, self.settings, drawn)

    def store_info(self, geometry: dict[str, Any], kinds: dict[str, Any], sources: dict[str, Any]) -> StoreInfo:
        tokenizer = self.tokenizer
        grid, size = list(tokenizer.grid), tokenizer.codebook_size
        return StoreInfo("tokens", geometry, kinds, sources, grid, size, self.code, self.settings)

    def part(
        self,
        name: str,
        new: Record,
        columns: list[dict[str, int]],
        drawn: Drawn | None,
        old: Record | None,
        meter: Meter,
    ) -> Record:
        """Encode what was drawn of a part; its record, which is the mark of done.

        Args:
            new: the record to be, shards left out; columns: of each shard, as they are to be.
            drawn: pixels; None: nothing is to be encoded. old: what is good of the tokens there; None: nothing.
        """
        if old is None or (drawn is not None and drawn.whole):
            assert drawn is not None
            mark(self.out, name).unlink(missing_ok=True)
            shards = [self.shard(drawn.folder, info, self.out, meter) for info in drawn.shards]
            return write_record(self.out, name, replace(new, shards=shards))
        encoded = None
        if drawn is not None:
            scratch = self.out / ".encoding"
            shards = [self.shard(drawn.folder, info, scratch, meter) for info in drawn.shards]
            encoded = Drawn(scratch, shards, new.rejects, whole=False)
        return graft(self.out, name, old, new.base, new.kinds, columns, new.rejects, encoded, new.pixels)

    def shard(self, pixels: Path, info: ShardInfo, out: Path, meter: Meter) -> ShardInfo:
        shard = Shard(pixels / info.name, info)
        with ShardWriter(out / info.name, info.source, info.split, dict(info.columns), info.annotations) as writer:
            writer.copy_samples(shard)
            for kind, variants in info.columns.items():
                for v in range(variants):
                    column = shard.column(kind, v)
                    some = self.batch * max(1, CHUNK_BYTES // (self.batch * column[0].nbytes))  # whole batches
                    for at in range(0, len(column), some):
                        rows = np.array(column[at : at + some])
                        writer.append(kind, v, encode_pictures(self.tokenizer, rows, self.batch, self.bf16))
                        meter.show(meter.done + len(rows))
            return writer.finish()
