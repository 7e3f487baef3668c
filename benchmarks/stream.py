"""Speed of the stream against reading the same tokens as LVM JSONL, side by side in one run, one thread.

    python benchmarks/stream.py --work DIR [--gb 2] [--repeat 5] [--out benchmarks/results/stream.json]

Makes a store of random codes (256 a picture, 8,192 codes, uint16) and the same pictures as LVM's JSON lines (base64 of
int32, 16 pictures a line). Measured, medians of several runs, each by a fresh reader of a whole epoch of the store (50
batches for `Stream.batch`), or of the whole JSONL: warm (files in the page cache) and cold (evicted before each run,
where the system allows it):
- tokens/s of reading the JSONL in file order: json.loads, base64.b64decode, np.frombuffer. Nothing else: no shuffle, no
  batch, no mix. In favour of JSONL.
- tokens/s of `Stream.codes` (uint16 out) in the keyed random order of training: single pictures, 8192 x 256; a mix of
  sentences of 16 pictures, 512 x 4096. And of `Stream.batch`, which also makes inputs, targets and documents.
- bytes of the token columns against one JSONL copy.
- resident memory over an epoch of the store, and tokens/s: with the default, which lets 4 GiB of the store stay mapped
  (pages of the kernel's cache, not the process's own), and with 256 MiB, for machines that count them.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

import lvmlite  # noqa: E402
from lvmlite.data.sentences import PairsConfig, SingleConfig, VideoConfig, base  # noqa: E402
from lvmlite.data.store import ShardWriter, Store, StoreInfo, write_json  # noqa: E402
from lvmlite.data.stream import Stream, StreamConfig  # noqa: E402
from lvmlite.devices import describe_machine  # noqa: E402

S, K, LINE = 256, 8192, 16
CHUNK = 2**15


def make_store(folder: Path, gb: float) -> Store:
    """Half photos with one annotation, half clips of 64 frames; in shards of 262,144 rows."""
    rows = int(gb * 1e9 / (S * 2))
    infos, rng = [], np.random.default_rng(0)
    about = {"photos": {"licence": "none"}, "clips": {"licence": "none", "frame_step": 10}}
    for source, kinds, frames, share in (("photos", ("image", "seg"), 1, 0.25), ("clips", ("image",), 64, 0.5)):
        left = int(rows * share) // 64 * 64
        while left:
            n = min(left, 2**18)
            name = f"{source}.{len(infos):04d}"
            with ShardWriter(folder / name, source, "train", dict.fromkeys(kinds, 1)) as writer:
                for i in range(n // frames):
                    writer.add_sample(f"{name}/{i}", f"{name}/{i}", None, frames)
                for kind in kinds:
                    for at in range(0, n, CHUNK):
                        writer.append(kind, 0, rng.integers(0, K, (min(CHUNK, n - at), S), dtype=np.uint16))
                infos.append(writer.finish())
            left -= n
    geometry = {"size": 256, "fit": "squash"}
    info = StoreInfo("tokens", geometry, {"seg": {}}, about, [16, 16], K, "random", {}, infos)
    write_json(folder / "store.json", asdict(info))
    return Store.open(folder)


def make_jsonl(store: Store, path: Path, gb: float) -> int:
    """The first pictures of the store as JSON lines; gives their tokens."""
    left = int(gb * 1e9 / (S * 2))
    tokens = 0
    with open(path, "wb") as file:
        for shard in store.shards:
            for kind in shard.info.columns:
                column = shard.column(kind)
                for at in range(0, min(len(column), left) // LINE * LINE, LINE):
                    data = np.asarray(column[at : at + LINE], "<i4").tobytes()
                    file.write(json.dumps({"tokens": base64.b64encode(data).decode("ascii")}).encode() + b"\n")
                    tokens += LINE * S
                    left -= LINE
    return tokens


def read_jsonl(path: Path) -> int:
    tokens = 0
    with open(path, "rb") as file:
        for line in file:
            tokens += len(np.frombuffer(base64.b64decode(json.loads(line)["tokens"]), np.int32))
    return tokens


def evict(paths: list[Path]) -> bool:
    """Put files out of the page cache; False where the system cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def resident() -> dict[str, float]:
    """Megabytes of this process: anonymous, and of mapped files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: round(int(fields[name].split()[0]) / 1024, 1) for name in ("RssAnon", "RssFile")}


def timed(work: Callable[[], int], repeat: int, prepare: Callable[[], Any]) -> dict[str, Any]:
    """Tokens/s of `work`, which gives its tokens."""
    speeds, seconds = [], []
    for _ in range(repeat):
        prepare()
        begun = time.perf_counter()
        tokens = work()
        seconds.append(time.perf_counter() - begun)
        speeds.append(tokens / seconds[-1])
    return {
        "tokens_per_s": round(statistics.median(speeds)),
        "seconds": round(statistics.median(seconds), 4),
        "all_seconds": [round(s, 4) for s in seconds],
    }


def streams(store: Store) -> dict[str, Stream]:
    single = StreamConfig([SingleConfig(kinds=["image"])], pictures=1)
    mix = [VideoConfig(share=0.5, strides=[10, 20, 30]), PairsConfig(share=0.5)]
    return {
        "8192 x 256, single": Stream([store], "train", single, 0, 8192),
        "512 x 4096, video and pairs": Stream([store], "train", StreamConfig(mix, pictures=16), 0, 512),
    }


def epoch(stream: Stream) -> int:
    """Batches in which the type with the most items is read once."""
    items = [t.n_items / (t.items_per_sentence * c) for t, c in zip(stream.types, stream.counts)]
    return int(max(items) * 1000 / stream.batch_size) or 1


def measure(store: Store, jsonl: Path, jsonl_tokens: int, repeat: int) -> dict[str, Any]:
    columns = [path for shard in store.shards for path in shard.folder.glob("*.npy")]
    out: dict[str, Any] = {}
    for state in ("warm", "cold"):

        def prepare(paths: list[Path], state: str = state) -> Callable[[], Any]:
            return (lambda: evict(paths)) if state == "cold" else (lambda: None)

        found: dict[str, Any] = {"LVM JSONL, in order": timed(lambda: read_jsonl(jsonl), repeat, prepare([jsonl]))}
        if state == "warm":
            for path in columns:
                path.read_bytes()
        for name, made in streams(store).items():
            print(state, name, file=sys.stderr, flush=True)
            whole = epoch(made)
            for what, n in (("codes, uint16", whole), ("batch, int64", min(50, whole))):

                def work(name: str = name, what: str = what, n: int = n) -> int:
                    stream = streams(store)[name]
                    for i in range(n):
                        stream.codes(i) if what.startswith("codes") else stream.batch(i)
                    return n * stream.batch_size * stream.context

                row = timed(work, repeat, prepare(columns))
                row["batches"], row["seconds_a_batch"] = n, round(row.pop("seconds") / n, 4)
                row["times_jsonl"] = round(row["tokens_per_s"] / found["LVM JSONL, in order"]["tokens_per_s"], 1)
                found[f"stream, {name}, {what}"] = row
        out[state] = found
    token_bytes = sum(p.stat().st_size for p in columns)
    tokens = sum(s.info.n_frames * len(s.info.columns) for s in store.shards) * S
    out["bytes"] = {
        "token columns": token_bytes,
        "jsonl": jsonl.stat().st_size,
        "columns_per_jsonl": round((token_bytes / tokens) / (jsonl.stat().st_size / jsonl_tokens), 4),
    }
    return out


def watch_memory(store: Store) -> dict[str, Any]:
    """Resident memory while every photo and frame is read once, in random order. Run in a fresh process."""
    config = StreamConfig([SingleConfig(kinds=["image", "seg"])], pictures=1)
    begun = time.perf_counter()
    stream = Stream([store], "train", config, 0, 8192)
    n = stream.types[0].n_items // stream.batch_size
    seen = []
    for i in range(n):
        stream.codes(i)
        if i in (0, 1, n - 1) or i % max(1, n // 10) == 0:
            seen.append({"batch": i, **resident()})
    first, last = seen[1], seen[-1]
    growth = sum(last[name] - first[name] for name in ("RssAnon", "RssFile"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    speed = round(n * stream.batch_size * S / (time.perf_counter() - begun))
    return {
        "batches": n,
        "tokens_per_s": speed,
        "megabytes": seen,
        "growth_megabytes": round(growth, 1),
        "peak_megabytes": round(peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of the stream against LVM JSONL")
    parser.add_argument("--work", type=Path, required=True, help="for the store and the JSONL; kept")
    parser.add_argument("--gb", type=float, default=2.0, help="of token columns (default: 2)")
    parser.add_argument(
        "--jsonl-gb", type=float, default=0.25, help="of token columns written as JSONL (default: 0.25)"
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/stream.json"))
    parser.add_argument("--memory-only", type=int, metavar="MIB", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder, jsonl = args.work / "store", args.work / "tokens.jsonl"
    if args.memory_only:
        base.RESIDENT = args.memory_only * 2**20
        print(json.dumps(watch_memory(Store.open(folder))))
        return
    store = Store.open(folder) if (folder / "store.json").exists() else make_store(folder, args.gb)
    jsonl_tokens = make_jsonl(store, jsonl, args.jsonl_gb)
    results = measure(store, jsonl, jsonl_tokens, args.repeat)
    for mib in (base.RESIDENT // 2**20, 256):
        child = [sys.executable, __file__, "--work", str(args.work), "--memory-only", str(mib)]
        found = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        results[f"memory, {mib} MiB may stay mapped"] = found
    about = {
        "benchmark": "stream",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(torch.device("cpu")),
        "versions": {"lvmlite": lvmlite.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "threads": 1,
        "repeat": args.repeat,
        "cold": "posix_fadvise(DONTNEED) on every file before each run",
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(about | results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
