"""Every entry of SENTENCES keeps the contract: cells that exist, a sentence by itself, exact shares, any ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite import recipe
from lvmlite.data.keyed import Draws
from lvmlite.data.mix import CYCLE
from lvmlite.data.sentences import SENTENCES, Columns, SentenceType
from lvmlite.data.stream import IGNORE, Stream, StreamConfig

from ..toys import Made, S, make_store, number_of

KINDS = {"image": 1, "seg": 3, "depth": 1}
SHARDS = [
    ("photos", "train", [1] * 40, KINDS),
    ("clips", "train", [9, 30, 17, 70, 12], {"image": 1, "seg": 1}),
    ("table", "train", [24, 24, 24], {"image": 1, "depth": 1}),
    ("photos", "train", [1] * 23, {"image": 1, "seg": 2}),
]
ABOUT = {"clips": {"frame_step": 10}, "table": {"views": True}}
# Settings under which an entry fits 8 pictures; every name of the table must be here.
FITTING: dict[str, dict[str, Any]] = {
    "single": {},
    "random": {"pictures": 8},
    "video": {"pictures": 4, "strides": [10, 20]},
    "long": {"pictures": 8, "sampling": "random"},
    "views": {"pictures": 8},
    "category": {"pictures": 8, "groups": [2, 4]},
    "pairs": {"pairs": 3, "variants": "per-sentence"},
    "multi": {"pictures": 7, "sources": ["photos"]},
    "annotated_video": {"frames": 3},
    "whole": {"pictures": 8, "sources": ["photos"]},
}


def config(name: str, **settings: Any) -> Any:
    return recipe.build(SENTENCES[name][0], {"sentence": name, **FITTING[name], **settings})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    categories = [[["cat", "dog", None][i % 3] for i in range(len(shard[2]))] for shard in SHARDS]
    return make_store(tmp_path_factory.mktemp("sentences") / "s", SHARDS, about=ABOUT, categories=categories)


def expanded(made: Made, name: str) -> tuple[Columns, list[SentenceType]]:
    columns, entry = Columns(), config(name)
    shards = [s for store in [made.store] for s in store.select("train", entry.sources)]
    types = [t for t in SENTENCES[name][1].expand(entry, shards, columns) if t.n_items]
    assert types
    return columns, types


@pytest.mark.parametrize("name", SENTENCES)
def test_configs(name: str) -> None:
    cls = SENTENCES[name][0]
    assert cls().sentence == name
    assert {"share", "sources"} <= {field.name for field in dataclasses.fields(cls)}
    assert recipe.build(cls, recipe.to_dict(config(name))) == config(name)
    with pytest.raises(ValueError, match="did you mean 'share'"):
        recipe.build(cls, {"sentence": name, "shar": 1.0})


@pytest.mark.parametrize("name", SENTENCES)
def test_cells_are_pictures_of_the_kinds_named(made: Made, name: str) -> None:
    columns, types = expanded(made, name)
    assert len({t.name for t in types}) == len(types)
    for t in types:
        assert t.n_pictures == len(t.kinds)
        n = max(50, t.n_items // t.items_per_sentence)
        items = np.arange(n * t.items_per_sentence).reshape(n, -1) % t.n_items
        column, row = t.cells(items, Draws(5, np.arange(n), np.zeros_like(items)))
        assert column.shape == row.shape == (n, t.n_pictures)
        assert row.min() >= 0
        assert (row < np.array([shard.info.n_frames for shard, _, _ in columns.names])[column]).all()
        for position, kind in enumerate(t.kinds):
            there = {columns.names[c][1] for c in np.unique(column[:, position])}
            assert there == {kind} if kind != "any" else there <= {"image", "seg", "depth"}


@settings(deadline=None, max_examples=20)
@given(name=st.sampled_from(sorted(SENTENCES)), key=st.integers(0, 2**63), data=st.data())
def test_a_sentence_does_not_depend_on_its_neighbours(made: Made, name: str, key: int, data: st.DataObject) -> None:
    _, types = expanded(made, name)
    t = data.draw(st.sampled_from(types))
    numbers = np.array(data.draw(st.lists(st.integers(0, 2**40), min_size=2, max_size=9)))
    items = np.random.default_rng(0).integers(0, t.n_items, (len(numbers), t.items_per_sentence))
    epochs = np.random.default_rng(1).integers(0, 3, items.shape)
    whole = np.stack(t.cells(items, Draws(key, numbers, epochs)))
    for some in (slice(0, 1), slice(1, None, 2), slice(None, None, -1)):
        alone = np.stack(t.cells(items[some], Draws(key, numbers[some], epochs[some])))
        assert np.array_equal(alone, whole[:, some])


@pytest.mark.parametrize("name", SENTENCES)
def test_no_item_twice_in_an_epoch(made: Made, name: str) -> None:
    """Frames of clips may repeat between sentences of several types of an entry; within one type no item does."""
    _, types = expanded(made, name)
    for t in types:
        n = t.n_items // t.items_per_sentence
        items = np.random.default_rng(2).permutation(t.n_items)[: n * t.items_per_sentence].reshape(n, -1)
        column, row = t.cells(items, Draws(5, np.arange(n), np.zeros_like(items)))
        cells = {(c, r) for c, r in zip(column.ravel().tolist(), row.ravel().tolist())}
        assert len(cells) == column.size


def everything(**other: Any) -> StreamConfig:
    shares = np.linspace(1, 2, len(SENTENCES))
    return StreamConfig([config(name, share=float(s)) for name, s in zip(SENTENCES, shares)], pictures=8, **other)


@pytest.mark.parametrize("world_size", [2, 3, 4, 6, 12])
def test_all_types_on_any_ranks(made: Made, world_size: int) -> None:
    whole = Stream([made.store], "train", everything(), 0, 12)
    part = Stream([made.store], "train", everything(), 0, 12)
    for i in (0, 83, 500):
        batch = whole.batch(i)
        ranks = [part.batch(i, rank, world_size) for rank in range(world_size)]
        for name in ("inputs", "targets", "document", "type"):
            assert np.array_equal(np.concatenate([getattr(b, name) for b in ranks]), getattr(batch, name))
        assert np.array_equal(np.concatenate([part.codes(i, r, world_size) for r in range(world_size)]), whole.codes(i))


@settings(deadline=None, max_examples=10)
@given(names=st.lists(st.sampled_from(sorted(SENTENCES)), min_size=1, max_size=6, unique=True), data=st.data())
def test_token_shares_are_exact_per_cycle(made: Made, names: list[str], data: st.DataObject) -> None:
    """In any 1,000 slots from a multiple of 1,000 on: each entry's tokens are its share, but for one slot a type."""
    shares = [data.draw(st.floats(0.2, 1.0)) for _ in names]
    mix = StreamConfig([config(name, share=share) for name, share in zip(names, shares)], pictures=8)
    stream = Stream([made.store], "train", mix, data.draw(st.integers(0, 99)), 250)
    cycle = data.draw(st.integers(0, 50))
    kinds, used = np.zeros(len(stream.types), int), np.zeros(len(stream.types), int)
    for i in range(4 * cycle, 4 * cycle + 4):
        batch = stream.batch(i)
        np.add.at(kinds, batch.type, 1)
        np.add.at(used, batch.type, (batch.targets != IGNORE).sum(1))
    assert kinds.tolist() == stream.counts
    assert kinds.sum() == CYCLE
    useful = np.array([n * k for n, k in zip(stream.length, stream.per_slot)])
    assert np.array_equal(used, kinds * useful)
    wanted = np.array(stream.shares) / useful
    assert np.abs(kinds - CYCLE * wanted / wanted.sum()).max() < 1


def test_codes_are_the_targets_of_a_batch(made: Made) -> None:
    stream = Stream([made.store], "train", everything(), 3, 40)
    for i in range(5):
        codes, batch = stream.codes(i), stream.batch(i)
        assert codes.dtype == np.uint16
        there = batch.targets != IGNORE
        assert np.array_equal(codes[there], batch.targets[there])
        assert not codes[~there].any()
        numbers = number_of(codes.reshape(40, -1, S))
        assert numbers.max() < len(made.pictures)


def test_left_out_is_said(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", [("clips", "train", [3, 9], {"image": 1})])
    stream = Stream([made.store], "train", StreamConfig([config("video")], pictures=4), 0, 1)
    assert stream.types[0].left_out == {"fewer than 4 frames": 1}
