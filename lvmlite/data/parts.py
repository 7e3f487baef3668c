"""What is finished of a store that is being built: records of parts, a lock, rejects.jsonl, and names of files.

In: the folder, and shards that were published. Out: `parts/<name>.json`, each with a fingerprint of all that decided
the samples of the part and one of each kind, so that a build continues where it was killed, does again what would now
come out otherwise, and adds a kind to the shards that are there (`graft`) without touching their other columns.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from urllib.parse import quote

import numpy as np

from lvmlite.data.column import column_files, flush
from lvmlite.data.store import IMAGE, Shard, ShardInfo, StoreInfo, write_json

SCRATCH = (".drawing", ".encoding")  # folders for what is not yet of the store
Progress = Callable[[int, int, str], None]  # done, total, what


@contextmanager
def building(out: Path, progress: Progress | None = None) -> Iterator[None]:
    """Have a store to oneself, waiting for another process that builds it. Half-written files are removed."""
    (out / "parts").mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as lock:
        try:
            import fcntl
        except ImportError:  # Windows
            pass
        else:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if progress:
                    progress(0, 0, "waiting for another process that builds it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:  # a file system without locks
                pass
        for path in [*out.glob(".*.partial"), *out.glob("*/.*.partial"), *(out / name for name in SCRATCH)]:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        yield
        for name in SCRATCH:
            shutil.rmtree(out / name, ignore_errors=True)


def publish(out: Path, info: StoreInfo, records: Sequence[str]) -> None:
    """Write store.json, then remove shards and records of earlier builds that it does not name."""
    write_json(out / "store.json", asdict(info))
    shards, marks = {shard.name for shard in info.shards}, {mark(out, name) for name in records}
    for path in [*out.glob("*/shard.json"), *(out / "parts").glob("*.json")]:
        if path.name == "shard.json" and path.parent.name not in shards:
            shutil.rmtree(path.parent)
        elif path.parent.name == "parts" and path not in marks:
            path.unlink()


def mark(out: Path, name: str) -> Path:
    """The file that says a part is finished."""
    return out / "parts" / f"{name}.json"


@dataclass
class Record:
    """A part of a store that is finished.

    Attributes:
        base: fingerprint of what decides its samples; kinds: of each kind, in the order of the recipe.
        shards, rejects: what came of it. A reject that a kind is to blame for names it.
        pixels: in a store of tokens, the checksums of the pixels of each shard.
        finished: False while columns come and go: only what `kinds` names is to be relied on.
    """

    base: str
    kinds: dict[str, str]
    shards: list[ShardInfo]
    rejects: list[dict[str, str]]
    pixels: list[dict[str, str]] | None = None
    finished: bool = True

    @property
    def n_pictures(self) -> int:
        return sum(shard.n_pictures for shard in self.shards)

    def missing(self, out: Path) -> list[tuple[ShardInfo, str]]:
        """Files of its shards that are gone."""
        names = [(shard, file) for shard in self.shards for file in ("shard.json", *shard.checksums)]
        return [(shard, file) for shard, file in names if not (out / shard.name / file).is_file()]

    def current(self, out: Path, base: str, kinds: Mapping[str, str]) -> bool:
        """Whether all is there as wanted."""
        same = self.base == base and list(self.kinds.items()) == list(kinds.items())
        return self.finished and same and not self.missing(out)

    def lacks(
        self, out: Path, base: str, kinds: Mapping[str, str], same_samples: bool = False
    ) -> tuple[str, ...] | None:
        """The kinds whose columns are not there as wanted; None if nothing is of use.

        A kind that is drawn otherwise or not wanted any more may have rejected samples that are now welcome: then
        nothing is of use, unless the samples are known to be the same.
        """
        stale = {kind for kind, made in self.kinds.items() if kinds.get(kind) != made}
        kept = {kind for kind in self.kinds if kind not in stale}
        blamed = {reject["kind"] for reject in self.rejects if "kind" in reject}
        if self.base != base or not (same_samples or blamed <= kept):
            return None
        lost = {column_files(shard.columns).get(file, file) for shard, file in self.missing(out)} - {"shard.json"}
        if lost - set(kinds) - stale:  # the photos, or the lists of samples
            return None
        return tuple(kind for kind in kinds if kind in lost or kind not in kept)


@dataclass
class Drawn:
    """Shards in a folder of their own, for a store to take over: all of a part, or columns to add to what it has."""

    folder: Path
    shards: list[ShardInfo]
    rejects: list[dict[str, str]]
    whole: bool


def write_record(out: Path, name: str, record: Record) -> Record:
    """Say what is finished of a part."""
    write_json(mark(out, name), asdict(record))
    return record


def read_record(out: Path, name: str) -> Record | None:
    """What is finished of a part; None if nothing is, or the record is broken."""
    try:
        record = Record(**json.loads(mark(out, name).read_text(encoding="utf-8")))
        record.shards = [ShardInfo(**shard) for shard in record.shards]  # type: ignore[arg-type]
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return record


def graft(
    out: Path,
    name: str,
    old: Record,
    base: str,
    kinds: dict[str, str],
    columns: list[dict[str, int]],
    rejects: list[dict[str, str]],
    drawn: Drawn | None = None,
    pixels: list[dict[str, str]] | None = None,
) -> Record:
    """Bring the shards of a part to other kinds; its record. Files of kinds that stay are left as they are.

    What becomes stale is first taken out of the record, and new columns are moved in whole: killed anywhere, a build
    finds a part of which it knows what is good.

    Args:
        base, kinds, rejects, pixels: of the new record; columns: of each shard, as they are to be.
        drawn: the columns to add; None: some only go, or change places.
    """
    kept = {kind for kind, made in kinds.items() if old.kinds.get(kind) == made} | {IMAGE}
    reduced, shards = [], []
    added = drawn.shards if drawn else [None] * len(old.shards)
    for info, wanted, new in zip(old.shards, columns, added, strict=True):
        there = {kind: n for kind, n in info.columns.items() if kind in kept and kind in wanted}
        gone = column_files({kind: n for kind, n in info.columns.items() if kind not in there})
        sums = {file: checksum for file, checksum in info.checksums.items() if file not in gone}
        reduced.append(replace(info, columns=there, checksums=sums))
        fresh = {} if new is None else {file: new.checksums[file] for file in column_files(new.columns)}
        sums = {file: checksum for file, checksum in sums.items() if (out / info.name / file).is_file()}
        shards.append(replace(info, columns=wanted, checksums=dict(sorted((fresh | sums).items()))))
    known = {kind: made for kind, made in kinds.items() if kind in kept}
    write_record(out, name, replace(old, kinds=known, shards=reduced, finished=False))
    for i, info in enumerate(shards):
        folder = out / info.name
        for file in column_files(info.columns):
            if file not in reduced[i].checksums or not (folder / file).is_file():
                assert drawn is not None
                os.replace(drawn.folder / info.name / file, folder / file)
        write_json(folder / "shard.json", asdict(info))
        for path in folder.iterdir():
            if path.name not in info.checksums and path.name != "shard.json":
                path.unlink()
    record = write_record(out, name, Record(base, kinds, shards, rejects, pixels))
    if drawn is not None:
        for info in drawn.shards:
            shutil.rmtree(drawn.folder / info.name)
    return record


def fingerprint(*what: object) -> str:
    """A hash of values by what they print as."""
    return hashlib.sha256(repr(what).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def file_name(*names: str) -> str:
    """Names as one file name: "a/b", "c" -> "a%2Fb.c". Different names give different ones."""
    safe = [quote(name, safe="", errors="backslashreplace").replace(".", "%2E") for name in names]
    return ".".join(n if len(n) <= 80 else f"{n[:60]}~{hashlib.sha256(n.encode()).hexdigest()[:16]}" for n in safe)


def nothing_readable(rejects: list[dict[str, str]], out: Path) -> str:
    if not rejects:
        return "no picture: the sources gave no sample"
    reasons = "; ".join(sorted({reject["reason"] for reject in rejects})[:3])
    what = f"all {len(rejects)} inputs were rejected" if len(rejects) > 1 else f"{rejects[0]['key']} was rejected"
    return f"no readable picture: {what} ({reasons}); see {out / 'rejects.jsonl'}"


def check_keys(shards: Iterable[Shard]) -> None:
    """A key names one sample of its source. Within a part a second one is rejected; between parts it is too late.

    Raises:
        ValueError: two parts hold the same key. Eight bytes a sample are kept to find it.
    """
    by_source: dict[str, list[Shard]] = {}
    for shard in shards:
        by_source.setdefault(shard.info.source, []).append(shard)

    def hash_of(key: str) -> int:
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")

    def names(shard: Shard) -> Iterator[str]:
        return map(itemgetter(0), shard.keys())

    for source, mine in by_source.items():
        if len(mine) < 2:
            continue
        hashes = np.fromiter((hash_of(key) for shard in mine for key in names(shard)), np.uint64)
        hashes.sort()
        suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        where: dict[str, str] = {}
        for shard in mine if suspects else []:
            for key in names(shard):
                if hash_of(key) in suspects and where.setdefault(key, shard.info.name) != shard.info.name:
                    raise ValueError(
                        f"source '{source}': two samples have the key '{key}', in {where[key]} and {shard.info.name}"
                    )


def write_rejects(out: Path, rejects: list[dict[str, str]]) -> None:
    """Write rejects.jsonl, whole or not at all."""
    partial = out / ".rejects.jsonl.partial"
    with open(partial, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as lines:
        for reject in rejects:
            lines.write(json.dumps(reject, ensure_ascii=False) + "\n")
        flush(lines)
    os.replace(partial, out / "rejects.jsonl")


def read_rejects(store: Path) -> list[dict[str, str]]:
    """The lines of rejects.jsonl: source, key, reason."""
    try:
        with open(store / "rejects.jsonl", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except FileNotFoundError:
        return []
