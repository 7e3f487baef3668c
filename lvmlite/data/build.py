"""Building a store: sources -> pixels -> tokens.

In: sources, kinds, a geometry, and for tokens a tokenizer. Out: a PixelStore, a TokenStore, and rejects.jsonl.

The unit of work is a source's part. A part is drawn into pixel shards (one per split and set of kinds), and pixel
shards are encoded into token shards; both are published by a rename. So a killed build continues where it was and
ends with the same bytes, whatever the number of worker processes, and re-tokenizing starts from the pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from lvmlite.data.sources.base import Part, Reject, Source
from lvmlite.data.store import Shard, ShardInfo, ShardWriter, Store, StoreInfo, write_json
from lvmlite.images import Geometry, Unreadable
from lvmlite.sample import Sample
from lvmlite.tasks.base import Task
from lvmlite.tokenizers.base import Tokenizer, encode_pictures

IMAGE = "image"
Progress = Callable[[int, int, str], None]  # done, total, what


def stable_rng(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on the seed and the names only."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


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


def draw_part(
    source: Source,
    part: Part,
    kinds: Mapping[str, Task],
    wanted: list[str] | None,
    geometry: Geometry,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Draw one part into pixel shards under `out`; its record, also written to `out/parts`, is the mark of done."""
    writers: dict[tuple[str, tuple[str, ...]], ShardWriter] = {}
    rejects: list[dict[str, str]] = []
    try:
        for sample in source.samples(part):
            if isinstance(sample, Reject):
                rejects.append({"source": source.name, "key": sample.key, "reason": sample.reason})
                continue
            try:
                mine = available_kinds(sample, kinds, wanted)
                pictures = draw_sample(sample, mine, geometry, seed)
            except Unreadable as error:
                rejects.append({"source": source.name, "key": sample.key, "reason": error.reason})
                continue
            bucket = (sample.split, tuple(mine))
            if bucket not in writers:
                name = f"{source.name}-{part.name}-{sample.split}-{len(writers)}"
                columns = {IMAGE: 1} | {kind: task.variants for kind, task in mine.items()}
                writers[bucket] = ShardWriter(out / name, source.name, sample.split, columns)
            writer = writers[bucket]
            writer.add_sample(sample.key, sample.group, sample.category, len(sample.frames))
            for (kind, v), rows in pictures.items():
                writer.append(kind, v, rows)
        infos = [writer.finish() for writer in writers.values()]
    except BaseException:
        for writer in writers.values():
            writer.__exit__(BaseException, None, None)
        raise
    record = {"shards": [asdict(info) for info in infos], "rejects": rejects}
    write_json(out / "parts" / f"{source.name}-{part.name}.json", record)
    return record


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
        ValueError: nothing to read, or nothing could be read; in one line.
        OSError: the disk is full, for one.
    """
    (out / "parts").mkdir(parents=True, exist_ok=True)
    remove_partial(out)
    jobs = [(source, part) for source in sources for part in source.parts()]
    only = only or {}
    records: dict[int, dict[str, Any]] = {}
    todo = []
    for i, (source, part) in enumerate(jobs):
        mark = out / "parts" / f"{source.name}-{part.name}.json"
        if mark.exists():
            records[i] = json.loads(mark.read_text(encoding="utf-8"))
        else:
            todo.append((i, (source, part, kinds, only.get(source.name), geometry, seed, out)))
    for i, record in run_jobs(todo, workers):
        records[i] = record
        if progress:
            done = sum(n_pictures(shard) for r in records.values() for shard in r["shards"])
            progress(done, 0, f"part {len(records)} of {len(jobs)}")
    ordered = [records[i] for i in range(len(jobs))]
    write_rejects(out, [reject for record in ordered for reject in record["rejects"]])
    shards = [ShardInfo(**shard) for record in ordered for shard in record["shards"]]
    if not shards:
        n = sum(len(record["rejects"]) for record in ordered)
        reasons = sorted({reject["reason"] for record in ordered for reject in record["rejects"]})
        raise ValueError(
            f"no readable picture: all {n} inputs were rejected ({'; '.join(reasons[:3])}); see {out / 'rejects.jsonl'}"
        )
    info = StoreInfo(
        "pixels",
        asdict(geometry),
        dict(kind_settings),
        {s.name: {"licence": s.licence} for s in sources},
        shards=shards,
    )
    write_json(out / "store.json", asdict(info))
    return Store.open(out)


def run_jobs(todo: list[tuple[int, tuple[Any, ...]]], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    if workers == 0 or len(todo) < 2:
        for i, job in todo:
            yield i, draw_part(*job)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [(i, pool.submit(draw_part, *job)) for i, job in todo]
        for i, future in futures:
            yield i, future.result()


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
        ValueError: the pictures are not of the tokenizer's size.
    """
    if pixels.info.geometry["size"] != tokenizer.image_size:
        raise ValueError(
            f"{pixels.path}: pictures of {pixels.info.geometry['size']} px, the tokenizer takes {tokenizer.image_size}"
        )
    out.mkdir(parents=True, exist_ok=True)
    remove_partial(out)
    total = sum(n_pictures(asdict(shard.info)) for shard in pixels.shards)
    done, infos = 0, []
    for shard in pixels.shards:
        mark = out / shard.info.name / "shard.json"
        if mark.exists():
            infos.append(ShardInfo(**json.loads(mark.read_text(encoding="utf-8"))))
        else:
            infos.append(encode_shard(shard, tokenizer, out, batch, bf16))
        done += n_pictures(asdict(shard.info))
        if progress:
            progress(done, total, shard.info.name)
    if (rejects := pixels.path / "rejects.jsonl").exists():
        shutil.copyfile(rejects, out / "rejects.jsonl")
    info = StoreInfo(
        "tokens",
        pixels.info.geometry,
        pixels.info.kinds,
        pixels.info.sources,
        grid=list(tokenizer.grid),
        codebook_size=tokenizer.codebook_size,
        code_fingerprint=tokenizer.code_fingerprint,
        encoding={"device": tokenizer.device.type, "precision": "bf16" if bf16 else "fp32", "batch": batch},
        shards=infos,
    )
    write_json(out / "store.json", asdict(info))
    return Store.open(out)


def encode_shard(shard: Shard, tokenizer: Tokenizer, out: Path, batch: int, bf16: bool) -> ShardInfo:
    info = shard.info
    with ShardWriter(out / info.name, info.source, info.split, dict(info.columns)) as writer:
        writer.copy_samples(shard)
        for kind, variants in info.columns.items():
            for v in range(variants):
                column = shard.column(kind, v)
                for at in range(0, len(column), 64 * batch):
                    rows = np.asarray(column[at : at + 64 * batch])
                    writer.append(kind, v, encode_pictures(tokenizer, rows, batch, bf16))
        return writer.finish()


def n_pictures(shard: Mapping[str, Any]) -> int:
    return int(shard["n_frames"] * sum(shard["columns"].values()))


def write_rejects(out: Path, rejects: list[dict[str, str]]) -> None:
    partial = out / ".rejects.jsonl.partial"
    partial.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rejects), encoding="utf-8")
    os.replace(partial, out / "rejects.jsonl")


def read_rejects(store: Path) -> list[dict[str, str]]:
    """The lines of rejects.jsonl."""
    file = store / "rejects.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def remove_partial(out: Path) -> None:
    """Delete what a killed build left half written."""
    for path in out.glob(".*.partial"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
