"""Drawing ahead: the same batches in the same order, and errors where their batch is asked for."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tiny_runs

from lvmlite.train.ahead import Ahead


def test_the_next_batch_is_drawn_before_it_is_asked_for() -> None:
    drawn, there = [], threading.Event()

    def draw(i: int) -> int:
        drawn.append(i)
        if i == 5:
            there.set()
        return i * i

    ahead = Ahead(draw)
    assert ahead.get(4) == 16
    assert there.wait(10)
    assert ahead.get(5) == 25
    ahead.rest()
    assert drawn == [4, 5, 6]
    assert [ahead.get(i) for i in (2, 3, 9, 9)] == [4, 9, 81, 81]  # any other order costs time, not bits
    ahead.rest()
    assert drawn == [4, 5, 6, 2, 3, 4, 9, 10, 9, 10]


def test_an_error_is_raised_where_its_batch_is_asked_for() -> None:
    def draw(i: int) -> int:
        if i == 3:
            raise ValueError("batch 3 is broken")
        return i

    ahead = Ahead(draw)
    assert ahead.get(2) == 2
    ahead.rest()
    for _ in range(2):
        with pytest.raises(ValueError, match="batch 3 is broken"):
            ahead.get(3)
    assert ahead.get(4) == 4


def test_two_draws_never_overlap() -> None:
    inside, most = 0, 0

    def draw(i: int) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.002)
        inside -= 1
        return i

    ahead = Ahead(draw)
    assert [ahead.get(i) for i in (0, 1, 7, 8, 3)] == [0, 1, 7, 8, 3]
    ahead.rest()
    assert most == 1


def test_its_thread_ends_with_it() -> None:
    ahead = Ahead(lambda i: i)
    ahead.get(0)
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("ahead")][-1:]
    del ahead
    thread.join(10)
    assert not thread.is_alive()


def test_a_tokenizer_sees_the_same_pictures(data: Path) -> None:
    learner, _ = tiny_runs.gan(data, steps=9)
    for step in (3, 4, 5, 3):
        (piece,) = learner.micro_batches(step)
        pictures = learner.mirror(learner.stream.batch(step), step)
        seen = np.round(piece.data.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
        assert (seen == pictures).all()
