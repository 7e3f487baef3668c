"""Columns give the cells asked for, whatever their number; the table of types is whole."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.data.sentences import SENTENCES, Columns, PairsConfig, SingleConfig, base

from ..toys import Made, digits, make_store, number_of
from .reader import SHARDS, Reader


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_gather_reads_the_cells(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    made = make_store(tmp_path_factory.mktemp("store"), SHARDS)
    columns = Columns()
    names = [(s, kind, v) for s in made.store.shards for kind, n in s.info.columns.items() for v in range(n)]
    ids = [columns.add(*name) for name in names]
    assert ids == [columns.add(*name) for name in names] == list(range(len(names)))
    shape = data.draw(st.sampled_from([(1,), (7,), (3, 4)]))
    which = np.array(data.draw(st.lists(st.sampled_from(ids), min_size=12, max_size=12)))[: np.prod(shape)].reshape(
        shape
    )
    rows = np.array([data.draw(st.integers(0, names[i][0].info.n_frames - 1)) for i in which.ravel()]).reshape(shape)
    expected = [names[i][0].column(*names[i][1:])[row] for i, row in zip(which.ravel(), rows.ravel())]
    found = columns.gather(which, rows)
    assert type(found) is np.ndarray
    assert found.dtype == np.uint16
    assert np.array_equal(found, np.array(expected).reshape(*shape, 3))


def test_more_columns_than_a_process_may_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_OPEN", 10)
    made = make_store(tmp_path, [("a", "train", [1, 1], {"image": 1})] * 200)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, before[1]))
    try:
        reader = Reader(made, SingleConfig())
        assert sorted(reader.read().ravel()) == list(range(400))
        assert len(reader.columns._open) == 10
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_broken_column_is_found_at_the_start(made: Made) -> None:
    path = made.store.path / "a.2" / "depth.npy"
    path.write_bytes(path.read_bytes()[:-1])
    Reader(made, SingleConfig())
    with pytest.raises(ValueError, match=r"a\.2/depth\.npy: cannot be read .*; build the store again"):
        Reader(made, PairsConfig())


def test_every_type_has_a_default_that_names_itself() -> None:
    for name, (config, _) in SENTENCES.items():
        assert config().sentence == name


def test_the_toy_numbers_are_read_back() -> None:
    numbers = np.array([[0, 1, 63], [64, 4096, 262143]])
    assert np.array_equal(number_of(digits(numbers).reshape(2, -1)), numbers)
