"""Other places where a run's numbers go, beside log.jsonl: TensorBoard, Weights & Biases.

In: each line of the log. Out: what the tool keeps. The packages are optional: pip install 'lvmlite[track]'.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

TrackerName = Literal["tensorboard", "wandb"]


class Tracker(Protocol):
    """Keeps the numbers of a run, which goes on from a step; what was kept of later steps is no more.

    Args:
        folder: of the training; config: its settings, plain; step: the last one taken before.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], step: int): ...

    def log(self, step: int, numbers: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `folder/tensorboard`: tensorboard --logdir FOLDER."""

    def __init__(self, folder: Path, config: Mapping[str, Any], step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases in the project WANDB_PROJECT, else "lvmlite"; WANDB_MODE=offline keeps it here.

    The id is of the run folder and its settings, so that the same command goes on with the same run. The tool takes
    no step twice: those that are repeated after a kill keep their first numbers, which are the same.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], step: int):
        import wandb

        identity = f"{folder.resolve()} {config.get('fingerprint', '')}"
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "lvmlite"),
            id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            name=str(folder),
            dir=str(folder),
            config=dict(config),
            resume="allow",
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.run.log(dict(numbers), step=step)

    def close(self) -> None:
        self.run.finish()


# by the name of the package
TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB}


def check_trackers(names: Sequence[str]) -> None:
    """Raises ValueError, one line, if the package of a tracker is not installed."""
    for name in names:
        try:
            import_module(name)
        except ImportError:
            raise ValueError(
                f"track: {name} is not installed: pip install 'lvmlite[track]', or leave it out of track"
            ) from None


@contextmanager
def open_trackers(names: Sequence[str], folder: Path, config: Mapping[str, Any], step: int) -> Iterator[list[Tracker]]:
    """The trackers of a run, closed afterwards, so that what they hold back is written."""
    with ExitStack() as stack:
        trackers = [TRACKERS[name](folder, config, step) for name in dict.fromkeys(names)]
        for tracker in trackers:
            stack.callback(tracker.close)
        yield trackers


def numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """What of a log line can be drawn as a curve."""
    return {
        key: value
        for key, value in entry.items()
        if key != "step" and isinstance(value, int | float) and math.isfinite(value)
    }
