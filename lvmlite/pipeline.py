"""A run: pixels -> tokenizer -> tokens -> stages -> model folder -> evaluation -> report. Without stages there is no
model, and the tokenizer is what is evaluated.

In: a `Recipe`. Out: the run folder. Every step is keyed by a hash of its own config and of the keys it stands on;
a finished step with the same key is skipped, an interrupted one goes on where it was. A step whose recipe changed is
done again; trained weights are only replaced if asked for. Training goes on from its last checkpoint, too, if what
changed is how long it is, what is written on the way, or where and in which pieces it is computed.

    <out>/recipe.yaml steps.json pixels/ tokens/ tokenizer/ stages/<name>/ model/ results.json evaluation/ report/
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from lvmlite import __version__, distributed, recipe
from lvmlite.data.store import write_json
from lvmlite.devices import keep_freed_memory, pick_device
from lvmlite.evaluate import perceptual
from lvmlite.schema import Recipe
from lvmlite.steps import Work
from lvmlite.train import checkpoint
from lvmlite.train.losses import open_perceptual
from lvmlite.train.trackers import check_trackers

# of training, what does not change what is learned: what is written on the way, and where and how it is computed
WRITING = ("log_every", "checkpoint_every", "keep_checkpoints", "validate_every", "validation_pictures", "track")
COMPUTING = ("micro_batch_size", "parallel", "activations")
RESCUE = ("guard",)  # which steps are skipped: to be changed where a run would end at the same batch again


@dataclass
class Step:
    """One step of a run.

    Attributes:
        name: for people and for --until; key: hash of all that decides its outcome.
        settings: what the key is made of, to say what changed.
        do: the work; gives a line of detail.
        folders: of its output.
        trained: its output is weights, too costly to replace unasked.
        keeps: it takes up of its folders what is still good, a store that gains a kind for one.
        together: all ranks do it, as they train; else the first one does, and the others wait.
        fingerprint: of weights: the key without the number of steps; while it stays, training can go on.
    """

    name: str
    key: str
    settings: dict[str, Any]
    do: Callable[[], str]
    folders: list[Path]
    trained: bool = False
    keeps: bool = False
    together: bool = False
    fingerprint: str = ""

    @property
    def length(self) -> int:
        """Steps of training."""
        return int(self.settings[self.name]["train"]["steps"])


class Pipeline:
    """The steps of a recipe.

    Args:
        config: the recipe; quiet: no progress; overwrite: replace trained weights of another recipe.

    Raises:
        ValueError: the device is not here; a store, tokenizer or model that the recipe names cannot be used; a stage
            does not fit the model or the ranks.
    """

    def __init__(self, config: Recipe, *, quiet: bool = False, overwrite: bool = False):
        self.config, self.quiet, self.overwrite = config, quiet, overwrite
        self.out = Path(config.out)
        self.device = distributed.start(pick_device(config.device))
        self.work = Work(config, self.device, quiet)
        self.stores = self.work.other_stores()
        self.work.stages.check(self.work.vocabulary())
        for train in (config.tokenizer.train, *(stage.train for stage in config.stages)):
            check_trackers(train.track)
        self.steps = self.plan()
        self.work.keys = {step.folders[0]: step.fingerprint for step in self.steps if step.trained}

    # --- what will be done

    def plan(self) -> list[Step]:
        config, data = self.config, self.config.data
        plain = recipe.to_dict(config)
        steps: list[Step] = []
        keys: list[str] = []  # of all the steps that the next stands on

        def add(name: str, own: dict[str, Any], do: Callable[[], str], *folders: str, **how: Any) -> None:
            settings = {"seed": config.seed, "after": keys[-1] if keys else "", name: own}
            keys.append(recipe.config_hash(settings))
            steps.append(Step(name, keys[-1], settings, do, [self.out / folder for folder in folders], **how))

        def train(name: str, own: dict[str, Any], do: Callable[[], str], folder: str) -> None:
            own = {**own, "train": without(own["train"], *WRITING, *COMPUTING, *RESCUE)}
            add(name, own, do, folder, trained=True, together=True)
            endless = {**steps[-1].settings, name: {**own, "train": without(own["train"], "steps")}}
            steps[-1].fingerprint = recipe.config_hash(endless)

        others = {s.path.name: recipe.config_hash([asdict(shard) for shard in s.info.shards]) for s in self.stores}
        pixels = {k: v for k, v in plain["data"].items() if k not in ("workers", "pixels", "stores", "root")}
        encode = {k: v for k, v in plain["tokenizer"].items() if k in ("encode_batch", "encode_bf16")}
        decoder: dict[str, str] = {}  # of a tokenizer that is there: what it draws may change, and its codes stay
        if self.work.given is not None:
            tokenizer = self.work.given
            if data.sources and tokenizer.image_size != data.geometry.size:
                raise ValueError(
                    f"tokenizer.path {config.tokenizer.path}: reads pictures of {tokenizer.image_size} px, "
                    f"data.geometry.size is {data.geometry.size}; set data.geometry.size={tokenizer.image_size}"
                )
            encode["tokenizer"], decoder["decoder"] = tokenizer.code_fingerprint, tokenizer.decoder_fingerprint
        if data.sources and data.pixels:
            add("pixels", pixels, self.work.draw_pixels, "pixels", keeps=True)
            if config.tokenizer.path is None:
                drawn = keys.pop()
                own = {"net": plain["tokenizer"]["net"], "train": plain["tokenizer"]["train"]}
                if config.tokenizer.init is not None:
                    start = self.work.starting_tokenizer()
                    own["net"] = {
                        **start.settings(),
                        "code": start.code_fingerprint,
                        "decoder": start.decoder_fingerprint,
                    }
                own["data"] = narrowed(pixels, config.tokenizer.train.pictures)
                train("tokenizer", own, self.work.train_tokenizer, "tokenizer")
                encode["after"] = drawn
            add("tokens", encode, self.work.encode, "tokens", keeps=True)
        elif data.sources:
            add("tokens", {**pixels, **encode}, self.work.draw_and_encode, "tokens", keeps=True)
        for i, stage in enumerate(config.stages):
            own = {"model": plain["model"], **without(plain["stages"][i], "validation_batches")}
            own |= {"stores": others} if others else {}
            if stage.init_from is not None:  # its weights count, wherever they are
                own["init_from"] = self.work.stages.opened(stage.init_from).fingerprint
            work = self.work.stage_work(stage, config.stages[i - 1] if i else None)
            train(f"stage {stage.name}", own, work, f"stages/{stage.name}")
        exports = bool(config.stages) and bool(data.sources or config.tokenizer.path is not None)
        if exports:
            add("model", {"kinds": list(data.kinds), **decoder}, self.work.export, "model", together=True)
        if config.evaluate:
            own = {"protocols": plain["evaluate"], "nets": perceptual.there(), **decoder}
            add("evaluate", own, self.work.evaluate, "evaluation")
        if exports or config.evaluate or any(step.trained for step in steps if not config.stages):
            add("report", {"version": __version__}, self.work.report, "report")
        return steps

    def mark(self, step: Step) -> Path:
        return self.out / "steps" / f"{step.name.replace(' ', '-')}.json"

    def read_mark(self, step: Step) -> dict[str, Any] | None:
        path = self.mark(step)
        found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return found

    def is_done(self, step: Step) -> bool:
        """Whether the step is finished, by this very recipe."""
        found = self.read_mark(step)
        return bool(found and found["finished"] and found["key"] == step.key and all(f.exists() for f in step.folders))

    def todo(self) -> set[str]:
        """Names of the steps that are not done."""
        return {step.name for step in self.steps if not self.is_done(step)}

    # --- doing it

    def run(self, until: str = "", refresh: bool = False) -> list[dict[str, Any]]:
        """Do every step that is not done, up to one whose name begins with `until`.

        Args:
            refresh: look again at what sources hold, though pixels and tokens are done: only what is new is drawn.

        Returns:
            The lines of steps.json.

        Raises:
            ValueError: anything the user must mend, in one line. loop.Interrupted: stopped by a signal, saved.
        """
        if until.startswith("token") and not any(step.name.startswith(until) for step in self.steps):
            why = "data.sources is empty" if until == "tokens" else "tokenizer.path names one that is there"
            raise ValueError(f"{self.config.name}: no {until} to make: {why}")
        if until != "pixels" and "tokenizer" in self.todo():  # said now, not when all pictures are drawn
            open_perceptual(self.config.tokenizer.train.losses, self.device)
        last = next((i for i, step in enumerate(self.steps) if until and step.name.startswith(until)), len(self.steps))
        wanted = self.steps[: last + 1]
        self.check(wanted)
        distributed.barrier()  # every rank has read the marks before the first one writes
        with self.alone() if any(step.trained for step in wanted) else nullcontext():
            return self.do(wanted, refresh)

    def do(self, wanted: list[Step], refresh: bool) -> list[dict[str, Any]]:
        if self.device.type == "cpu":
            keep_freed_memory()
        main = distributed.is_main()
        if main:
            (self.out / "steps").mkdir(parents=True, exist_ok=True)
            recipe.save(self.config, self.out / "recipe.yaml")
        distributed.barrier()
        done: list[dict[str, Any]] = []
        for step in wanted:
            done.append(self.advance(step, refresh and step.keeps))
            if main:
                write_json(self.out / "steps.json", done)
            distributed.barrier()  # every rank sees this step's mark before it looks at the next
        return done

    def check(self, wanted: list[Step]) -> None:
        """Raises ValueError, one line, if one of these steps would replace weights of another recipe unasked: before
        any work, since a step that comes earlier may take hours."""
        changes: list[str] = []
        for step in wanted:
            found = self.read_mark(step)
            if found is None or found["key"] == step.key:
                continue
            changes += changed(found, step)
            trained = checkpoint.steps(step.folders[0] / "checkpoints") if step.trained else []
            if not trained or self.overwrite:
                continue
            if found.get("fingerprint") != step.fingerprint:
                raise ValueError(
                    f"{step.folders[0]}: trained by another recipe ({listed(changes)}); choose another out folder, or "
                    "add --overwrite"
                )
            if trained[-1] > step.length:
                raise ValueError(
                    f"{step.folders[0]}: was trained for {trained[-1]} steps, the recipe asks for {step.length}; "
                    "choose another out folder, or add --overwrite"
                )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the run folder: two processes that train in one would delete each other's checkpoints.

        Raises:
            ValueError: another process is at work in it; on all ranks.
        """
        held = None
        if distributed.is_main():
            self.out.mkdir(parents=True, exist_ok=True)
            held = open(self.out / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 - until all ranks are done
        try:
            if distributed.largest(float(held is not None and not taken(held)), self.device):
                who = ""
                if held is not None:
                    held.seek(0)
                    who = f" ({held.read().strip()})"
                raise ValueError(
                    f"{self.out}: another process{who} is at work here; wait for it, stop it, or choose another out"
                )
            yield
        finally:
            if held is not None:
                held.close()

    def advance(self, step: Step, again: bool = False) -> dict[str, Any]:
        """Do one step, or find it done; gives its line of steps.json. Ranks train together, the first does the rest."""
        found = self.read_mark(step)
        if found and self.is_done(step) and not again:
            self.say(f"{step.name}: done before ({found['detail']})")
            return {"step": step.name, "seconds": found["seconds"], "skipped": True, "detail": found["detail"]}
        main = distributed.is_main()
        mark = {"key": step.key, "fingerprint": step.fingerprint, "settings": step.settings, "finished": False}
        if main:
            self.prepare(step, found)
            write_json(self.mark(step), mark)
        distributed.barrier()
        self.say(f"{step.name} ...")
        begun = time.monotonic()
        detail = step.do() if main or step.together else ""
        entry = {"step": step.name, "seconds": round(time.monotonic() - begun, 2), "skipped": False, "detail": detail}
        if main:
            write_json(self.mark(step), {**mark, **entry, "finished": True})
        self.say(f"{step.name}: {detail}, {entry['seconds']:.0f} s")
        return entry

    def prepare(self, step: Step, found: dict[str, Any] | None) -> None:
        """Make room for a step: output of another recipe is removed, but for what can be taken up."""
        if found is None or found["key"] == step.key:
            return
        keeps, doing = step.keeps, "keeping what is still good" if step.keeps else "doing it again"
        if step.trained and found.get("fingerprint") == step.fingerprint:
            shorter = step.length < found["settings"][step.name]["train"]["steps"]
            if not (shorter and self.overwrite):
                keeps, doing = True, "going on from the last checkpoint"
        self.say(f"{step.name}: the recipe changed ({listed(changed(found, step))}), {doing}")
        for folder in [] if keeps else step.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def say(self, line: str) -> None:
        if not self.quiet and distributed.is_main():
            print(line, file=sys.stderr, flush=True)


def taken(file: TextIO) -> bool:
    """Lock an open file for this process, and say in it who we are; False if another holds it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows, or a file system without locks
        return True
    file.truncate(0)
    file.write(f"pid {os.getpid()} on {platform.node()}")
    file.flush()
    return True


def narrowed(data: dict[str, Any], sentences: list[Any]) -> dict[str, Any]:
    """What of the plain data config decides the pictures that these sentences read: only the kinds they name.

    A sentence of pairs that names none reads all; one that cannot name kinds reads photos.
    """
    named: set[str] = set()
    for sentence in sentences:
        kinds = getattr(sentence, "kinds", [])
        named |= set(data["kinds"] if kinds is None else kinds)
    return {
        **data,
        "kinds": {kind: task for kind, task in data["kinds"].items() if kind in named},
        "only": {source: sorted(named & set(kinds)) for source, kinds in data["only"].items()},
    }


def without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def changed(found: dict[str, Any], step: Step) -> list[str]:
    """What a step's recipe was and is, a line a key; not what earlier steps changed."""
    lines = recipe.difference(found["settings"], step.settings)
    return [line for line in lines if "after" not in line.partition(":")[0].split(".")]


def listed(changes: list[str]) -> str:
    changes = list(dict.fromkeys(changes))  # a seed is of every step
    more = f"; and {len(changes) - 4} more" if len(changes) > 4 else ""
    return "; ".join(changes[:4]) + more or "an earlier step changed"
