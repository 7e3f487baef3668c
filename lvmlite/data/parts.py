"""What is finished of a store that is being built: records of parts, a lock, rejects.jsonl, and names of files.

In: the folder, and shards that were published. Out: `parts/<name>.json`, each with a fingerprint of all that decided
the part, so that a build continues where it was killed and does again what would now come out otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from lvmlite.data.store import Shard, ShardInfo, StoreInfo, flush, write_json

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
        for path in [*out.glob(".*.partial"), *(out / "parts").glob(".*.partial")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield


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


def write_record(
    out: Path, name: str, key: str, shards: list[ShardInfo], rejects: list[dict[str, str]]
) -> dict[str, Any]:
    """Say that a part is finished: with which fingerprint, shards and rejects."""
    record = {"fingerprint": key, "shards": [asdict(info) for info in shards], "rejects": rejects}
    write_json(mark(out, name), record)
    return record


def read_record(out: Path, name: str, key: str) -> dict[str, Any] | None:
    """The record of a part that is finished with this fingerprint and has all its files; else None."""
    try:
        record: dict[str, Any] = json.loads(mark(out, name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if record.get("fingerprint") != key:
        return None
    files = [out / s["name"] / file for s in record["shards"] for file in ("shard.json", *s["checksums"])]
    return record if all(file.is_file() for file in files) else None


def fingerprint(*what: Any) -> str:
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


def n_pictures(shard: Mapping[str, Any]) -> int:
    return int(shard["n_frames"] * sum(shard["columns"].values()))


def write_rejects(out: Path, rejects: list[dict[str, str]]) -> None:
    """Write rejects.jsonl, whole or not at all."""
    partial = out / ".rejects.jsonl.partial"
    with open(partial, "w", encoding="utf-8", newline="\n") as lines:
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
