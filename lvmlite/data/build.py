"""Building a store: sources -> pixels -> tokens.

In: sources, kinds, a geometry, and for tokens a tokenizer. Out: a PixelStore, a TokenStore, and rejects.jsonl.

The unit of work is a source's part. A part is drawn into pixel shards (one per split and set of kinds), and each pixel
shard is encoded into a token shard. Both are published by a rename; then `parts/<part>.json` says what was done, with a
fingerprint of all that decided it. So a killed build continues where it was and ends with the same bytes, whatever the
number of worker processes; what was drawn or encoded otherwise, or is no longer there, is done again; and re-tokenizing
starts from the pixels. One process builds a store, others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lvmlite.data.parts import (
    Progress,
    building,
    check_keys,
    file_name,
    fingerprint,
    mark,
    n_pictures,
    nothing_readable,
    publish,
    read_record,
    read_rejects,
    write_record,
    write_rejects,
)
from lvmlite.data.sources.base import Part, Reject, Source
from lvmlite.data.store import Shard, ShardInfo, ShardWriter, Store, StoreInfo
from lvmlite.images import Geometry, Unreadable
from lvmlite.sample import Sample
from lvmlite.tasks.base import Task
from lvmlite.tokenizers.base import Tokenizer, encode_pictures

IMAGE = "image"
RESERVED = (IMAGE, "samples")  # <shard>/samples.npy is not a kind
CHUNK_BYTES = 2**25  # of pictures read at once to be encoded


def stable_rng(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on the seed and the names only."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


# --- pictures of a sample


def draw_sample(
    sample: Sample, kinds: Mapping[str, Task], geometry: Geometry, seed: int
) -> dict[tuple[str, int], np.ndarray]:
    """Every kind of every frame as pictures.

    Args:
        kinds: those this sample can have; the photo itself comes always.

    Returns:
        (kind, variant) -> (T, size, size, 3) uint8.

    Raises:
        Unreadable: a frame cannot be decoded.
    """
    columns: dict[tuple[str, int], list[np.ndarray]] = {(IMAGE, 0): []}
    columns.update({(kind, v): [] for kind, task in kinds.items() for v in range(task.variants)})
    for t in range(len(sample.frames)):
        frame = sample.frames[t]
        image = geometry.image(frame[IMAGE])
        columns[IMAGE, 0].append(image)
        for kind, task in kinds.items():
            fitted = task.fit(frame[task.annotation], geometry) if task.annotation else None
            for v in range(task.variants):
                if task.annotation is None:
                    fitted = task.derive(image, stable_rng(seed, sample.key, kind, t, v))
                columns[kind, v].append(task.render(fitted, v, sample.split))
    return {name: np.stack(pictures) for name, pictures in columns.items()}


def available_kinds(sample: Sample, kinds: Mapping[str, Task], wanted: list[str] | None) -> dict[str, Task]:
    """The kinds a sample can have: derived ones, and those whose annotation its first frame holds."""
    present = sample.frames[0].keys()
    chosen = kinds if wanted is None else {name: task for name, task in kinds.items() if name in wanted}
    return {name: task for name, task in chosen.items() if task.annotation is None or task.annotation in present}


# --- parts of a source


@dataclass(frozen=True)
class Job:
    """A part to draw. `name` is a safe file name, unique in the store; `fingerprint` is of all that decides it."""

    source: int
    part: Part
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Drawing:
    """What all jobs share; sent to each worker once."""

    sources: Sequence[Source]
    kinds: Mapping[str, Task]
    only: Mapping[str, list[str]]
    geometry: Geometry
    seed: int
    out: Path

    def draw(self, job: Job) -> dict[str, Any]:
        """Draw a part into pixel shards; its record, also written to `parts/`, is the mark of done."""
        source = self.sources[job.source]
        writers: dict[tuple[str, tuple[str, ...]], ShardWriter] = {}
        rejects: list[dict[str, str]] = []
        seen: set[str] = set()
        try:
            for sample in source.samples(job.part):
                reason = sample.reason if isinstance(sample, Reject) else self.add(sample, seen, writers, job.name)
                if reason is not None:
                    rejects.append({"source": source.name, "key": sample.key, "reason": reason})
            infos = [writer.finish() for writer in writers.values()]
        finally:
            for writer in writers.values():
                writer.abandon()
        return write_record(self.out, job.name, job.fingerprint, infos, rejects)

    def add(
        self, sample: Sample, seen: set[str], writers: dict[tuple[str, tuple[str, ...]], ShardWriter], part: str
    ) -> str | None:
        """Write one sample to the shard of its split and kinds, or say why it cannot be."""
        if sample.key in seen:
            return "duplicate key"
        seen.add(sample.key)
        if len(sample.frames) == 0:
            return "no frames"
        try:
            if len(sample.frames) == 1:
                sample = replace(sample, frames=[sample.frames[0]])  # decoded once
            kinds = available_kinds(sample, self.kinds, self.only.get(sample.source))
            pictures = draw_sample(sample, kinds, self.geometry, self.seed)
        except Unreadable as error:
            return error.reason
        bucket = (sample.split, tuple(kinds))
        if bucket not in writers:
            folder = self.out / f"{part}.{sample.split}.{len(writers)}"
            columns = {IMAGE: 1} | {kind: task.variants for kind, task in kinds.items()}
            writers[bucket] = ShardWriter(folder, sample.source, sample.split, columns)
        writers[bucket].add_sample(sample.key, sample.group, sample.category, len(sample.frames))
        for (kind, v), rows in pictures.items():
            writers[bucket].append(kind, v, rows)
        return None


def list_jobs(drawing: Drawing, settings: Mapping[str, Any]) -> list[Job]:
    """Every part of every source.

    Raises:
        ValueError: names that are used twice or cannot name a file; nothing to read.
    """
    for kind in drawing.kinds:
        if not re.fullmatch(r"[\w-]+", kind) or kind in RESERVED:
            raise ValueError(
                f"kinds: '{kind}' cannot name files; use letters, digits, _ and -, and not {' or '.join(RESERVED)}"
            )
    jobs = []
    for i, source in enumerate(drawing.sources):
        for part in source.parts():
            decides = (drawing.geometry, drawing.seed, drawing.only.get(source.name), settings)
            of_source = [type(source).__qualname__, *(getattr(source, name, None) for name in ("config", "seed"))]
            jobs.append(Job(i, part, file_name(source.name, part.name), fingerprint(decides, of_source, part)))
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        twice = next(job for job in jobs if names.count(job.name) > 1)
        raise ValueError(f"source '{drawing.sources[twice.source].name}' has two parts named '{twice.part.name}'")
    return jobs


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
        progress: called with (pictures so far, 0 = total unknown, what).

    Raises:
        ValueError: nothing to read, nothing could be read, or two samples of one key; in one line.
        OSError: the disk is full, for one.
    """
    drawing = Drawing(sources, kinds, only or {}, geometry, seed, out)
    jobs = list_jobs(drawing, kind_settings)
    with building(out, progress):
        records = {job.name: read_record(out, job.name, job.fingerprint) for job in jobs}
        todo = [job for job in jobs if records[job.name] is None]
        if todo:
            (out / "store.json").unlink(missing_ok=True)
        found = [record for record in records.values() if record]
        done = sum(n_pictures(shard) for record in found for shard in record["shards"])
        for n, (job, drawn) in enumerate(run_jobs(drawing, todo, workers), len(found) + 1):
            records[job.name] = drawn
            done += sum(n_pictures(shard) for shard in drawn["shards"])
            if progress:
                progress(done, 0, f"part {n} of {len(jobs)}")
        ordered = [record for job in jobs if (record := records[job.name])]
        rejects = [reject for record in ordered for reject in record["rejects"]]
        write_rejects(out, rejects)
        shards = [ShardInfo(**shard) for record in ordered for shard in record["shards"]]
        if not shards:
            for job in jobs:  # so that mended files are read again
                mark(out, job.name).unlink()
            raise ValueError(nothing_readable(rejects, out))
        check_keys(Shard(out / shard.name, shard) for shard in shards)
        licences = {source.name: {"licence": source.licence} for source in sources}
        publish(out, StoreInfo("pixels", asdict(geometry), dict(kind_settings), licences, shards=shards), list(records))
    return Store.open(out)


# --- worker processes

_DRAWING: list[Drawing] = []  # in a worker process, what `start_worker` was given


def start_worker(drawing: Drawing, threads: int) -> None:
    """Prepare a worker process. It ends with its parent, however that ends, and writes nothing afterwards."""
    import torch

    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all: the parent has something to say
    torch.set_num_threads(threads)
    _DRAWING.append(drawing)


def draw_in_worker(job: Job) -> dict[str, Any]:
    return _DRAWING[0].draw(job)


def run_jobs(drawing: Drawing, todo: list[Job], workers: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """The jobs with their records, in order.

    Raises:
        ValueError: a worker was killed.
    """
    if workers == 0 or len(todo) < 2:
        for job in todo:
            yield job, drawing.draw(job)
        return
    spawn = multiprocessing.get_context("spawn")
    shared = (drawing, max(1, (os.cpu_count() or 1) // workers))
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=start_worker, initargs=shared)
    try:
        futures = [(job, pool.submit(draw_in_worker, job)) for job in todo]
        for job, future in futures:
            yield job, future.result()
    except BrokenProcessPool:
        raise ValueError(
            f"{drawing.out}: a worker process was ended from outside, perhaps for want of memory; "
            "run it again, it goes on where it was, with fewer workers if need be"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


# --- tokens


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
        batch: pictures encoded together; fixed, for codes do not depend on who builds.
        bf16: encode under autocast; recorded in store.json.
        progress: called with (pictures so far, all pictures, shard name).

    Raises:
        ValueError: no pixels, or not of the tokenizer's size. OSError: the disk is full, for one.
    """
    if pixels.info.content != "pixels":
        raise ValueError(f"{pixels.path}: holds {pixels.info.content}, a tokenizer encodes pixels")
    size = pixels.info.geometry["size"]
    if size != tokenizer.image_size:
        raise ValueError(f"{pixels.path}: pictures of {size} px, the tokenizer takes {tokenizer.image_size}")
    code = tokenizer.code_fingerprint
    encoding = {"device": tokenizer.device.type, "precision": "bf16" if bf16 else "fp32", "batch": batch}
    total = sum(n_pictures(asdict(shard.info)) for shard in pixels.shards)
    done = 0
    infos: list[ShardInfo] = []
    with building(out, progress):
        for shard in pixels.shards:
            key = fingerprint(code, encoding, asdict(shard.info))
            record = read_record(out, shard.info.name, key)
            if record is None:
                (out / "store.json").unlink(missing_ok=True)
                encoded = encode_shard(shard, tokenizer, out, batch, bf16)
                record = write_record(out, shard.info.name, key, [encoded], [])
            infos += [ShardInfo(**info) for info in record["shards"]]
            done += n_pictures(asdict(shard.info))
            if progress:
                progress(done, total, shard.info.name)
        write_rejects(out, read_rejects(pixels.path))
        info = StoreInfo(
            "tokens",
            pixels.info.geometry,
            pixels.info.kinds,
            pixels.info.sources,
            grid=list(tokenizer.grid),
            codebook_size=tokenizer.codebook_size,
            code_fingerprint=code,
            encoding=encoding,
            shards=infos,
        )
        publish(out, info, [shard.info.name for shard in pixels.shards])
    return Store.open(out)


def encode_shard(shard: Shard, tokenizer: Tokenizer, out: Path, batch: int, bf16: bool) -> ShardInfo:
    info = shard.info
    with ShardWriter(out / info.name, info.source, info.split, dict(info.columns)) as writer:
        writer.copy_samples(shard)
        for kind, variants in info.columns.items():
            for v in range(variants):
                column = shard.column(kind, v)
                some = batch * max(1, CHUNK_BYTES // (batch * column[0].nbytes))  # whole batches
                for at in range(0, len(column), some):
                    rows = np.array(column[at : at + some])
                    writer.append(kind, v, encode_pictures(tokenizer, rows, batch, bf16))
        return writer.finish()
