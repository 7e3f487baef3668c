"""Running protocols: configs in, `results.json` and pictures out.

In: a bench and configs of PROTOCOLS. Out: `results.json` in the run folder, written when all is measured and in one
step, with pictures under `evaluation/`; the same numbers for the same bench, whatever else was run before.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from lvmlite.data.store import write_json
from lvmlite.devices import describe_machine
from lvmlite.evaluate.bench import FOLDER, Bench, TokenizerBench
from lvmlite.evaluate.protocols import build_protocol
from lvmlite.evaluate.results import Result
from lvmlite.recipe import to_dict

Progress = Callable[[str, int, int], None]  # protocol, steps done, steps in all


def evaluate(
    bench: TokenizerBench,
    configs: Sequence[Any],
    run: Path,
    *,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Run every protocol and write what they measured.

    Args:
        configs: of PROTOCOLS; two of one protocol are two results.
        run: the run folder, the bench's; what an earlier evaluation left in it is replaced.
        about: goes to `results.json` under "run".

    Raises:
        ValueError: the store lacks what a config names, or it needs a model that is not there; in one line.
    """
    assert run == bench.run, f"the bench writes to {bench.run}, not to {run}"
    shutil.rmtree(run / FOLDER, ignore_errors=True)
    (run / FOLDER).mkdir(parents=True)
    results = []
    for config in configs:
        start = time.perf_counter()
        protocol = build_protocol(config)
        if protocol.needs_model and not isinstance(bench, Bench):
            raise ValueError(f"protocol '{config.protocol}' needs a model, and there is a tokenizer only; leave it out")
        result = protocol.run(cast(Bench, bench), _named(progress, config.protocol))
        result.protocol = config.protocol
        result.settings = {name: value for name, value in to_dict(config).items() if name != "protocol"}
        result.seconds = time.perf_counter() - start
        results.append(result)
    write_results(run, results, bench, about)
    return results


def write_results(
    run: Path, results: Sequence[Result], bench: TokenizerBench, about: Mapping[str, Any] | None = None
) -> None:
    """`results.json`, whole or not at all. A number that is not finite is written as null."""
    machine = {**describe_machine(bench.device), "evaluated in": str(bench.dtype).removeprefix("torch.")}
    content = {"run": dict(about or {}), "machine": machine, "results": [asdict(result) for result in results]}
    write_json(run / "results.json", _finite(content))


def _named(progress: Progress | None, name: str) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(name, done, total)

    return tell


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
