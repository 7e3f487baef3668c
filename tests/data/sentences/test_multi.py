"""Tuples of several kinds of one frame: which kinds, and in which order, is drawn for the sentence."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from lvmlite.data.sentences import MultiConfig

from ..toys import Made, make_store
from .reader import Reader

KINDS = {"image": 1, "seg": 2, "depth": 1}


@pytest.fixture
def annotated(tmp_path: Path) -> Made:
    shards = [
        ("a", "train", [1] * 11, KINDS),
        ("a", "train", [1] * 4, {"image": 1, "seg": 1}),
        ("b", "train", [1] * 6, KINDS),
    ]
    return make_store(tmp_path / "s", shards)


def test_one_type_for_each_source_and_size(annotated: Made) -> None:
    types = {t.name: (t.n_pictures, t.items_per_sentence, t.n_items) for t in Reader(annotated, MultiConfig()).types}
    assert types == {
        "multi/a/2 of 3": (16, 8, 11),  # frames that lack one of the kinds are left out
        "multi/a/3 of 3": (15, 5, 11),
        "multi/b/2 of 3": (16, 8, 6),
        "multi/b/3 of 3": (15, 5, 6),
    }
    assert [t.left_out for t in Reader(annotated, MultiConfig(sizes=[2])).types] == [{"frames that lack a kind": 4}, {}]
    some = Reader(annotated, MultiConfig(kinds=["seg"], sizes=[2, 3], sources=["a"])).types
    assert [(t.name, t.n_items) for t in some] == [("multi/a/2 of 2", 15)]


@pytest.mark.parametrize("m", [1, 2, 3])
def test_a_sentence_keeps_to_its_kinds_and_order(annotated: Made, m: int) -> None:
    reader = Reader(annotated, MultiConfig(sizes=[m], sources=["a"], pictures=9))
    orders = []
    for row in ([annotated.pictures[i] for i in row] for row in reader.read(n=300)):
        tuples = [row[i : i + m] for i in range(0, len(row), m)]
        assert len({tuple(kind for _, kind, _, _ in some) for some in tuples}) == 1
        assert all(len({(shard, r) for shard, _, _, r in some}) == 1 for some in tuples)
        assert {variant for _, _, variant, _ in row} == {0}
        orders.append(tuple(kind for _, kind, _, _ in tuples[0]))
    expected = set(permutations(KINDS, m))
    assert set(orders) == expected
    assert all(abs(orders.count(order) / 300 - 1 / len(expected)) < 0.12 for order in expected)


def test_each_frame_once_per_epoch(annotated: Made) -> None:
    reader = Reader(annotated, MultiConfig(sizes=[3], sources=["a"], pictures=3))
    frames = [(label[0], label[3]) for row in reader.labels() for label in row[::3]]
    assert len(frames) == len(set(frames)) == 11
