"""Imported sentences are read as they came."""

from __future__ import annotations

from pathlib import Path

from lvmlite.data.sentences import WholeConfig

from ..toys import make_store
from .reader import Reader


def test_samples_in_order_by_length(tmp_path: Path) -> None:
    made = make_store(tmp_path, [("lvm", "train", [3, 1, 3, 20, 2], {"image": 1}), ("lvm", "train", [3], {"image": 1})])
    reader = Reader(made, WholeConfig())
    assert [(t.name, t.n_items, t.left_out) for t in reader.types] == [
        ("whole/1", 1, {"more than 16 pictures": 1}),
        ("whole/2", 1, {}),
        ("whole/3", 3, {}),
    ]
    assert [reader.read(t).tolist() for t in range(3)] == [[[3]], [[27, 28]], [[0, 1, 2], [4, 5, 6], [29, 30, 31]]]
