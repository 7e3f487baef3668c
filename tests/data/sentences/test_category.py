"""Groups of one class: every picture at most once per epoch, groups dealt anew in each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lvmlite.data.sentences import CategoryConfig
from lvmlite.data.stream import Stream, StreamConfig

from ..toys import Made, make_store, number_of
from .reader import Reader

SIZES = {"cat": 37, "dog": 16, "owl": 3, "ant": 130}


@pytest.fixture
def classes(tmp_path: Path) -> Made:
    """Two shards that know the classes in different orders, one picture without, one source more."""
    names = [name for name, n in SIZES.items() for _ in range(n)]
    rng = np.random.default_rng(0)
    first, second = (list(part) for part in np.split(rng.permutation(names), [90]))
    shards = [("zoo", "train", [1] * 91, {"image": 1}), ("zoo", "train", [1] * len(second), {"image": 1})]
    made = make_store(
        tmp_path / "s",
        [*shards, ("farm", "train", [1] * 5, {"image": 1})],
        categories=[[*first, None], second, ["dog"] * 5],
    )
    made.labels = dict(enumerate([*first, None, *second, *["farm dog"] * 5]))  # type: ignore[attr-defined]
    return made


def test_a_group_is_of_one_class_and_each_picture_is_seen_once(classes: Made) -> None:
    labels = classes.labels  # type: ignore[attr-defined]
    reader = Reader(classes, CategoryConfig())
    assert [t.name for t in reader.types] == ["category/2", "category/4", "category/8", "category/16"]
    for t, g in enumerate((2, 4, 8, 16)):
        kind = reader.types[t]
        whole = {name: n // g for name, n in {**SIZES, "farm dog": 5}.items()}
        assert kind.n_items == sum(whole.values())
        groups = reader.read(t).reshape(-1, g)
        names = [{labels[i] for i in group} for group in groups]
        assert all(len(name) == 1 for name in names)
        assert None not in set.union(*names)
        assert len(set(groups.ravel())) == groups.size
        m = 16 // g
        assert len(groups) == kind.n_items // m * m
        few = sum(n < g for n in (*SIZES.values(), 5))
        assert kind.left_out == ({f"classes of fewer than {g} pictures": few} if few else {})


def test_each_epoch_deals_anew(classes: Made) -> None:
    """Over epochs every picture of a class is seen, in ever other company."""
    reader = Reader(classes, CategoryConfig(groups=[16]))
    epochs = [reader.read(epoch=e).reshape(-1, 16) for e in range(12)]
    seen = {int(i) for epoch in epochs for i in epoch.ravel()}
    labels = classes.labels  # type: ignore[attr-defined]
    assert seen == {i for i, name in labels.items() if name in ("cat", "dog", "ant")}
    company = {frozenset(group.tolist()) for epoch in epochs for group in epoch if labels[int(group[0])] == "ant"}
    assert len(company) == 12 * (130 // 16)


def test_in_a_stream_every_picture_once_per_epoch(classes: Made) -> None:
    config = StreamConfig([CategoryConfig(groups=[4], pictures=8)], pictures=8)
    stream = Stream([classes.store], "train", config, 0, 5)
    reader = Reader(classes, CategoryConfig(groups=[4], pictures=8))
    n = reader.types[0].n_items // 2
    drawn = np.concatenate([number_of(stream.batch(i).targets) for i in range(n // 5)])
    assert len(set(drawn.ravel().tolist())) == drawn.size


def test_sizes_must_fit() -> None:
    with pytest.raises(ValueError, match="16 pictures are not made of whole groups of 3"):
        CategoryConfig(groups=[2, 3])
    with pytest.raises(ValueError, match="groups is empty"):
        CategoryConfig(groups=[])
