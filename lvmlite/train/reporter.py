"""Says what is known of each step: to log.jsonl, to trackers, to people.

In: the numbers of a step. Out: a line of the log every so many steps, and whenever there is something to say.
"""

from __future__ import annotations

import math
from typing import Any

from lvmlite.train.log import Board, JsonLog
from lvmlite.train.meter import Meter
from lvmlite.train.trackers import Tracker, numbers


class Reporter:
    """Args: log: None on all ranks but the main one, which then say nothing; every: steps between two lines."""

    def __init__(self, meter: Meter, log: JsonLog | None, board: Board, trackers: list[Tracker], every: int):
        self.meter, self.log, self.board, self.trackers, self.every = meter, log, board, trackers, every

    def tell(self, entry: dict[str, Any], last: bool) -> None:
        """entry: of a step. Its losses are of that step alone; the rates are of the steps since the last line."""
        if self.log is None:
            return
        step = entry["step"]
        entry |= self.meter.numbers()
        if self.meter.unit == "tokens":
            names = {"loss": "perplexity", "val_loss": "val_perplexity"}
            entry |= {new: perplexity(entry[name]) for name, new in names.items() if name in entry}
        if "bad_batch" in entry:
            self.board.say(f"step {step} is skipped: {entry['bad_reason']} (batch {entry['bad_batch']})")
        self.board.show(step, entry)
        if last or step % self.every == 0 or {"val_loss", "bad_batch"} & entry.keys():
            self.log.write(entry)
            for tracker in self.trackers:
                tracker.log(step, numbers(entry))
            self.meter.clear()


def perplexity(nats: float) -> float:
    """Of a mean loss; inf where that is no number of the machine."""
    return math.exp(nats) if not nats > 709 else math.inf
