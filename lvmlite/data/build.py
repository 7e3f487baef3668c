"""Building a store: sources -> pixels -> tokens, or sources -> tokens.

In: sources, kinds, a geometry, and for tokens a tokenizer. Out: a PixelStore, a TokenStore, and rejects.jsonl.

The unit of work is a source's part. A part is drawn into pixel shards (one per split and set of annotations), and each
pixel shard is encoded into a token shard. Both are published by a rename; then `parts/<part>.json` says what was done,
with fingerprints of all that decided it. So a killed build continues where it was and ends with the same bytes,
whatever the number of worker processes; what was drawn or encoded otherwise, or is no longer there, is done again; a
kind that is added or changed writes its own columns only; and re-tokenizing starts from the pixels. One process builds
a store, others wait for it.

A store whose recipe gained a kind ends with the bytes of one built from nothing. Only where the new kind cannot draw a
sample that was accepted, or a kind goes that had rejected one, the samples change, and the part is drawn again whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lvmlite.data.column import column_files
from lvmlite.data.draw import Drawing, Job, list_jobs, run_jobs
from lvmlite.data.encode import Encoder, Meter
from lvmlite.data.parts import (
    Drawn,
    Progress,
    Record,
    building,
    check_keys,
    graft,
    mark,
    nothing_readable,
    publish,
    read_record,
    read_rejects,
    write_rejects,
)
from lvmlite.data.pictures import stable_rng
from lvmlite.data.sources.base import Source
from lvmlite.data.store import IMAGE, KEYS, SAMPLES, Shard, Store, StoreInfo, broken
from lvmlite.images import Geometry
from lvmlite.tasks.base import Task
from lvmlite.tokenizers.base import Tokenizer

__all__ = ["IMAGE", "build_pixels", "build_tokens", "encode_sources", "read_rejects", "stable_rng"]


def plan(
    drawing: Drawing, jobs: list[Job], mend: Callable[[Job, Record], Record]
) -> tuple[dict[str, Record | None], list[Job]]:
    """What is there of each part, and the parts to draw. Those that only lose columns are mended at once."""
    records: dict[str, Record | None] = {}
    todo = []
    for job in jobs:
        old = read_record(drawing.out, job.name)
        if old is not None and not old.current(drawing.out, job.base, job.kinds):
            (drawing.out / "store.json").unlink(missing_ok=True)
            lacks = drawing.lacks(old, job)
            if lacks == ():
                old = mend(job, old)
            else:
                todo.append(replace(job, old=old, lacks=lacks))
                old = None
        elif old is None:
            todo.append(job)
        records[job.name] = old
    if todo:
        (drawing.out / "store.json").unlink(missing_ok=True)
    return records, todo


def conclude(out: Path, jobs: list[Job], records: Mapping[str, Record | None], info: StoreInfo) -> Store:
    """Check and publish a store whose parts are all there."""
    ordered = [record for job in jobs if (record := records[job.name])]
    rejects = [reject for record in ordered for reject in record.rejects]
    write_rejects(out, rejects)
    info.shards = [shard for record in ordered for shard in record.shards]
    if not info.shards:
        for job in jobs:  # so that mended files are read again
            mark(out, job.name).unlink()
        raise ValueError(nothing_readable(rejects, out))
    check_keys(Shard(out / shard.name, shard) for shard in info.shards)
    publish(out, info, list(records))
    return Store.open(out)


def build_pixels(
    sources: list[Source],
    kinds: Mapping[str, Task],
    kind_settings: Mapping[str, Any],
    geometry: Geometry,
    out: Path,
    *,
    only: Mapping[str, list[str]] | None = None,
    seed: int = 0,
    workers: int = 0,
    progress: Progress | None = None,
) -> Store:
    """Draw every part of every source into a PixelStore.

    Args:
        kind_settings: the resolved config of every kind, for store.json.
        only: source name -> the kinds to draw for it; default: all it can have.
        workers: processes; 0 draws in this one. The bytes are the same.
        progress: called with (pictures so far, about how many in all or 0, what).

    Raises:
        ValueError: nothing to read, nothing could be read, a kind that nothing gives, or two samples of one key; in
            one line.
        OSError: the disk is full, for one.
    """
    drawing = Drawing(sources, kinds, only or {}, geometry, seed, out)
    jobs = list_jobs(drawing, kind_settings)

    def mend(job: Job, old: Record) -> Record:
        columns = [drawing.columns(shard) for shard in old.shards]
        return graft(out, job.name, old, job.base, job.kinds, columns, old.rejects)

    with building(out, progress):
        records, todo = plan(drawing, jobs, mend)
        before = sum(record.n_pictures for record in records.values() if record)
        meter = Meter(progress, before, items=sum(len(job.part.items) for job in todo))
        n = len(jobs) - len(todo)
        meter.show(before, f"{n} of {len(jobs)} parts")
        for job, record in run_jobs(drawing, todo, workers, meter.follow):
            records[job.name], n = record, n + 1
            meter.show(meter.done, f"{n} of {len(jobs)} parts")
        about = {source.name: source.about() for source in sources}
        return conclude(out, jobs, records, StoreInfo("pixels", asdict(geometry), dict(kind_settings), about))


# --- tokens


def drawn_parts(pixels: Store) -> dict[str, Record]:
    """The parts of a PixelStore, in the order of its shards. Raises ValueError if they are not those of its shards."""
    order = {shard.name: i for i, shard in enumerate(pixels.info.shards)}
    names = sorted(path.stem for path in (pixels.path / "parts").glob("*.json"))
    found = {name: record for name in names if (record := read_record(pixels.path, name))}
    shards = [shard for record in found.values() for shard in record.shards]
    if sorted(shards, key=lambda shard: order.get(shard.name, -1)) != pixels.info.shards:
        raise broken(pixels.path / "parts", "not what store.json says")
    return dict(sorted(found.items(), key=lambda x: order[x[1].shards[0].name] if x[1].shards else len(order)))


def still_good(tokens: Record, pixels: Record) -> Record | None:
    """What is known of the tokens of a part, less the kinds whose pixels are others by now; None: nothing is."""
    if [shard.samples_id for shard in tokens.shards] != [shard.samples_id for shard in pixels.shards]:
        return None
    changed = set()
    for then, now in zip(tokens.pixels or [{}] * len(pixels.shards), pixels.shards, strict=True):
        files = column_files(now.columns)
        changed |= {kind for file, kind in files.items() if then.get(file) != now.checksums[file]}
    if IMAGE in changed:
        return None
    kinds = {kind: made for kind, made in tokens.kinds.items() if kind not in changed}
    return replace(tokens, kinds=kinds)


def build_tokens(
    pixels: Store,
    tokenizer: Tokenizer,
    out: Path,
    *,
    batch: int = 64,
    bf16: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Encode a PixelStore into a TokenStore of the same rows.

    Args:
        batch, bf16: of `Encoder`; recorded in store.json.
        progress: called with (pictures so far, all pictures, part).

    Raises:
        ValueError: no pixels, or not of the tokenizer's size. OSError: the disk is full, for one.
    """
    if pixels.info.content != "pixels":
        raise ValueError(f"{pixels.path}: holds {pixels.info.content}, a tokenizer encodes pixels")
    encoder = Encoder(tokenizer, out, batch, bf16)
    encoder.check(pixels.path, pixels.info.geometry["size"])
    parts = drawn_parts(pixels)
    with building(out, progress):
        records: dict[str, Record] = {}
        meter = Meter(progress, total=sum(part.n_pictures for part in parts.values()))
        for name, part in parts.items():
            new = replace(part, base=encoder.base(part.base), shards=[], pixels=[s.checksums for s in part.shards])
            old = read_record(out, name)
            if old and old.current(out, new.base, new.kinds) and (old.pixels, old.rejects) == (new.pixels, new.rejects):
                records[name] = old
                meter.show(meter.done + part.n_pictures)
                continue
            (out / "store.json").unlink(missing_ok=True)
            old = still_good(old, part) if old else None
            lacks = old.lacks(out, new.base, new.kinds, same_samples=True) if old else None
            columns = [dict(shard.columns) for shard in part.shards]
            drawn = Drawn(pixels.path, part.shards, part.rejects, whole=True) if lacks is None else None
            if lacks:
                some = [replace(s, columns={k: n for k, n in s.columns.items() if k in lacks}) for s in part.shards]
                drawn = Drawn(pixels.path, some, part.rejects, whole=False)
            done = meter.done + part.n_pictures
            records[name] = encoder.part(name, new, columns, drawn, old, meter)
            meter.show(done, name)
        by_name = {shard.name: shard for record in records.values() for shard in record.shards}
        info = encoder.store_info(pixels.info.geometry, pixels.info.kinds, pixels.info.sources)
        info.shards = [by_name[shard.name] for shard in pixels.info.shards]
        write_rejects(out, read_rejects(pixels.path))
        publish(out, info, list(records))
    return Store.open(out)


def encode_sources(
    sources: list[Source],
    kinds: Mapping[str, Task],
    kind_settings: Mapping[str, Any],
    geometry: Geometry,
    tokenizer: Tokenizer,
    out: Path,
    *,
    only: Mapping[str, list[str]] | None = None,
    seed: int = 0,
    workers: int = 0,
    batch: int = 64,
    bf16: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Sources -> a TokenStore, of which no pixels are kept; the bytes `build_pixels` and `build_tokens` would leave.

    Workers draw parts ahead into `out/.drawing`, at most workers + 2 at any time; this process encodes and removes
    them. Arguments and errors are those of the two.
    """
    encoder = Encoder(tokenizer, out, batch, bf16)
    encoder.check(out, geometry.size)
    drawing = Drawing(sources, kinds, only or {}, geometry, seed, out, keep=False)
    jobs = [replace(job, base=encoder.base(job.base)) for job in list_jobs(drawing, kind_settings)]
    meter = Meter(progress)

    def encode(job: Job, old: Record | None, drawn: Drawn | None) -> Record:
        columns = []
        if drawn is not None and drawn.whole:
            pixels = [shard.checksums for shard in drawn.shards]
        else:
            assert old is not None
            assert old.pixels is not None
            columns, pixels = [drawing.columns(shard) for shard in old.shards], []
            for i, wanted in enumerate(columns):
                files = {**column_files(wanted), SAMPLES: "", KEYS: ""}
                sums = old.pixels[i] | (drawn.shards[i].checksums if drawn else {})
                pixels.append({file: checksum for file, checksum in sorted(sums.items()) if file in files})
        rejects = drawn.rejects if drawn else old.rejects if old else []
        return encoder.part(job.name, Record(job.base, job.kinds, [], rejects, pixels), columns, drawn, old, meter)

    with building(out, progress):
        records, todo = plan(drawing, jobs, lambda job, old: encode(job, old, None))
        meter.before = meter.done = sum(record.n_pictures for record in records.values() if record)
        meter.items = sum(len(job.part.items) for job in todo)
        n = len(jobs) - len(todo)
        meter.show(meter.done, f"{n} of {len(jobs)} parts")
        for job, drawn in run_jobs(drawing, todo, workers, meter.watch):
            records[job.name], n = encode(job, job.old, drawn), n + 1
            meter.show(meter.done, f"{n} of {len(jobs)} parts")
            shutil.rmtree(drawn.folder, ignore_errors=True)
        about = {source.name: source.about() for source in sources}
        return conclude(out, jobs, records, encoder.store_info(asdict(geometry), dict(kind_settings), about))
