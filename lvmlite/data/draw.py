"""Drawing a part of a source: every sample as the pictures of all its kinds, in worker processes.

In: sources, kinds, a geometry. Out: shards of pixels, one per split and set of native annotations, and rejects.

Which shard a sample goes to depends on what its source offers, never on the kinds: a kind that is added later finds
every sample in its place, and can be drawn alone. A sample that one kind cannot draw is rejected whole; if several
cannot, the first by name is to blame. So neither the order of the kinds nor when they were added decides anything.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvmlite.data.parts import Drawn, Record, file_name, fingerprint, graft, mark, write_record
from lvmlite.data.pictures import Undrawable, available_kinds, draw_sample
from lvmlite.data.sources.base import Part, Reject, Source
from lvmlite.data.store import IMAGE, ShardInfo, ShardWriter
from lvmlite.images import Geometry, Unreadable
from lvmlite.sample import Sample
from lvmlite.tasks.base import Task

RESERVED = (IMAGE, "samples")  # <shard>/samples.npy is not a kind
TICK = 0.5  # seconds between looks at what the workers have done


# --- parts of a source


@dataclass(frozen=True)
class Job:
    """A part to draw.

    Attributes:
        source: its number; name: a safe file name, unique in the store.
        base: fingerprint of all that decides its samples; kinds: of each kind to draw of it.
        old: what was built of it before; lacks: the kinds to add to that, or None to draw all.
    """

    source: int
    part: Part
    name: str
    base: str
    kinds: dict[str, str]
    old: Record | None = None
    lacks: tuple[str, ...] | None = None


class Tally:
    """Pictures drawn and items gone through, counted in this process or, shared, in all workers."""

    def __init__(self, shared: bool = False, tell: Callable[[], None] | None = None) -> None:
        self.counts: Any = [0, 0]
        self.lock: AbstractContextManager[Any] = nullcontext()
        if shared:
            self.counts = multiprocessing.get_context("spawn").Array("q", 2)
            self.lock = self.counts.get_lock()
        self.tell = tell

    def add(self, pictures: int, items: int) -> None:
        with self.lock:
            self.counts[0] += pictures
            self.counts[1] += items
        if self.tell:
            self.tell()


@dataclass(frozen=True)
class Drawing:
    """What all jobs share; sent to each worker once.

    Attributes:
        out: the store; keep: its own shards are drawn. Otherwise each part is drawn into a folder of its own in
            `out/.drawing`, to be encoded.
    """

    sources: Sequence[Source]
    kinds: Mapping[str, Task]
    only: Mapping[str, list[str]]
    geometry: Geometry
    seed: int
    out: Path
    keep: bool = True

    def kinds_of(self, source: str) -> dict[str, Task]:
        """The kinds wanted of a source."""
        only = self.only.get(source)
        return {kind: task for kind, task in self.kinds.items() if only is None or kind in only}

    def columns(self, shard: ShardInfo) -> dict[str, int]:
        """The columns a shard is to have."""
        mine = available_kinds(shard.annotations, self.kinds_of(shard.source))
        return {IMAGE: 1} | {kind: task.variants for kind, task in mine.items()}

    def lacks(self, record: Record, job: Job) -> tuple[str, ...] | None:
        """The kinds to be drawn before a part is as wanted; None: all of it."""
        found = record.lacks(self.out, job.base, job.kinds)
        if found is None:
            return None
        possible = {kind for shard in record.shards for kind in self.columns(shard)}
        if any("kind" in reject for reject in record.rejects):  # of those samples nobody knows what they offer
            possible = set(job.kinds)
        return tuple(kind for kind in found if kind in possible)

    def work(self, job: Job, tally: Tally) -> Record | Drawn:
        """Do a job: its record, which is the mark of done, if pixels are kept; else what was drawn."""
        if not self.keep:
            return self.draw(job, self.out / ".drawing" / job.name, tally)
        if job.lacks is not None:
            assert job.old is not None
            drawn = self.draw_some(job, job.lacks, self.out / ".drawing", tally)
            if drawn is not None:
                columns = [self.columns(shard) for shard in job.old.shards]
                return graft(self.out, job.name, job.old, job.base, job.kinds, columns, drawn.rejects, drawn)
        mark(self.out, job.name).unlink(missing_ok=True)
        drawn = self.draw_all(job, self.out, tally)
        return write_record(self.out, job.name, Record(job.base, job.kinds, drawn.shards, drawn.rejects))

    def draw(self, job: Job, folder: Path, tally: Tally) -> Drawn:
        """What a job lacks, or all if that cannot be added."""
        some = None if job.lacks is None else self.draw_some(job, job.lacks, folder, tally)
        return some or self.draw_all(job, folder, tally)

    def draw_all(self, job: Job, folder: Path, tally: Tally) -> Drawn:
        kinds = self.kinds_of(self.sources[job.source].name)
        return Drawn(folder, *self.draw_kinds(job, kinds, folder, tally), whole=True)

    def draw_some(self, job: Job, lacks: Sequence[str], folder: Path, tally: Tally) -> Drawn | None:
        """Columns of some kinds for the samples that are there; None if the samples are not the same any more."""
        assert job.old is not None
        kinds = {kind: self.kinds[kind] for kind in lacks}
        faults = {r["key"]: (r["kind"], r["reason"]) for r in job.old.rejects if "kind" in r}
        shards, rejects = self.draw_kinds(job, kinds, folder, tally, faults)
        if [shard.samples_id for shard in shards] != [shard.samples_id for shard in job.old.shards]:
            return None
        return Drawn(folder, shards, rejects, whole=False)

    def draw_kinds(
        self,
        job: Job,
        kinds: Mapping[str, Task],
        folder: Path,
        tally: Tally,
        faults: Mapping[str, tuple[str, str]] | None = None,
    ) -> tuple[list[ShardInfo], list[dict[str, str]]]:
        """Draw a part into shards in `folder`.

        Args:
            faults: key -> (kind, reason) of samples that another kind has rejected; None: draw the photos too.
        """
        source = self.sources[job.source]
        writers: dict[tuple[str, tuple[str, ...]], ShardWriter] = {}
        rejects: list[dict[str, str]] = []
        seen: set[str] = set()
        left = len(job.part.items)
        try:
            for sample in source.samples(job.part):
                n = 0
                try:
                    if isinstance(sample, Reject):
                        raise Unreadable(sample.reason)
                    if sample.key in seen:
                        raise Unreadable("duplicate key")
                    seen.add(sample.key)
                    n = self.add(sample, writers, folder / job.name, kinds, faults)
                except Unreadable as error:
                    reject = {"source": source.name, "key": sample.key, "reason": error.reason}
                    if isinstance(error, Undrawable):
                        reject["kind"] = error.kind
                    rejects.append(reject)
                tally.add(n, int(left > 0))
                left -= left > 0
            infos = [writer.finish() for writer in writers.values()]
        finally:
            for writer in writers.values():
                writer.abandon()
        if left:
            tally.add(0, left)
        return infos, rejects

    def add(
        self,
        sample: Sample,
        writers: dict[tuple[str, tuple[str, ...]], ShardWriter],
        prefix: Path,
        kinds: Mapping[str, Task],
        faults: Mapping[str, tuple[str, str]] | None,
    ) -> int:
        """Write one sample to the shard of its split and annotations: the number of pictures. Raises Unreadable."""
        if len(sample.frames) == 0:
            raise Unreadable("no frames")
        if len(sample.frames) == 1:
            sample = replace(sample, frames=[sample.frames[0]])  # decoded once
        annotations = tuple(sorted(set(sample.frames[0]) - {IMAGE}))
        mine = available_kinds(annotations, kinds)
        fault = (faults or {}).get(sample.key)
        try:
            pictures = draw_sample(sample, mine, self.geometry, self.seed)
        except Undrawable as error:
            if fault is not None and fault[0] < error.kind:
                raise Undrawable(*fault) from None
            raise
        if fault is not None:
            raise Undrawable(*fault)
        if faults is not None:
            del pictures[IMAGE, 0]
        bucket = (sample.split, annotations)
        if bucket not in writers:
            columns = {kind: task.variants for kind, task in mine.items()}
            writers[bucket] = ShardWriter(
                prefix.with_name(f"{prefix.name}.{sample.split}.{len(writers)}"),
                sample.source,
                sample.split,
                columns if faults is not None else {IMAGE: 1} | columns,
                annotations,
            )
        writers[bucket].add_sample(sample.key, sample.group, sample.category, len(sample.frames))
        for (kind, v), rows in pictures.items():
            writers[bucket].append(kind, v, rows)
        return len(sample.frames) * len(pictures)


def list_jobs(drawing: Drawing, settings: Mapping[str, Any]) -> list[Job]:
    """Every part of every source.

    Raises:
        ValueError: names that are used twice or cannot name a file; a kind that nothing gives; nothing to read.
    """
    for kind, task in drawing.kinds.items():
        if not re.fullmatch(r"[\w-]+", kind) or kind in RESERVED:
            raise ValueError(
                f"kinds: '{kind}' cannot name files; use letters, digits, _ and -, and not {' or '.join(RESERVED)}"
            )
        if task.annotation and not any(task.annotation in source.annotations for source in drawing.sources):
            have = "; ".join(f"{source.name}: {', '.join(source.annotations) or 'none'}" for source in drawing.sources)
            raise ValueError(f"kinds: '{kind}' is drawn from '{task.annotation}', which no source gives ({have})")
    jobs = []
    for i, source in enumerate(drawing.sources):
        kinds = {
            kind: fingerprint(settings.get(kind), task.annotation, task.variants)
            for kind, task in drawing.kinds_of(source.name).items()
        }
        of_source = [type(source).__qualname__, *(getattr(source, name, None) for name in ("config", "seed"))]
        for part in source.parts():
            base = fingerprint(drawing.geometry, drawing.seed, of_source, part)
            jobs.append(Job(i, part, file_name(source.name, part.name), base, kinds))
    names = [job.name for job in jobs]
    if len(set(names)) < len(names):
        twice = next(job for job in jobs if names.count(job.name) > 1)
        raise ValueError(f"source '{drawing.sources[twice.source].name}' has two parts named '{twice.part.name}'")
    return jobs


# --- worker processes

_SHARED: list[tuple[Drawing, Tally]] = []  # in a worker process, what `start_worker` was given


def start_worker(drawing: Drawing, tally: Tally, threads: int) -> None:
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
    _SHARED.append((drawing, tally))


def work_in_worker(job: Job) -> Record | Drawn:
    drawing, tally = _SHARED[0]
    return drawing.work(job, tally)


def run_jobs(
    drawing: Drawing, todo: list[Job], workers: int, watch: Callable[[Tally], None]
) -> Iterator[tuple[Job, Any]]:
    """The jobs with what `Drawing.work` made of them, in order.

    If pixels are not kept, at most workers + 2 parts are there at any time, that of the caller among them; the caller
    removes it before it asks for the next.

    Args:
        watch: called now and then with the tally.

    Raises:
        ValueError: a worker was killed.
    """
    if workers == 0 or len(todo) < 2:
        tally = Tally(tell=lambda: watch(tally))
        for job in todo:
            yield job, drawing.work(job, tally)
        return
    tally = Tally(shared=True)
    shared = (drawing, tally, max(1, (os.cpu_count() or 1) // workers))
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=start_worker, initargs=shared)
    waiting, running = deque(todo), deque[Any]()
    ahead = len(todo) if drawing.keep else workers + 2
    try:
        while waiting or running:
            while waiting and len(running) < ahead:
                job = waiting.popleft()
                running.append((job, pool.submit(work_in_worker, job)))
            job, future = running.popleft()
            while not future.done():
                wait([future], TICK)
                watch(tally)
            yield job, future.result()
    except BrokenProcessPool:
        raise ValueError(
            f"{drawing.out}: a worker process was ended from outside, perhaps for want of memory; "
            "run it again, it goes on where it was, with fewer workers if need be"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
