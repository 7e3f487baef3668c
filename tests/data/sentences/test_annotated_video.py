"""Clips with their annotations: interleaved and grouped, frames first or masks first."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lvmlite.data.keyed import Draws
from lvmlite.data.sentences import AnnotatedVideoConfig, Columns
from lvmlite.data.sentences.annotated_video import AnnotatedVideo

from ..toys import Made, make_store
from .reader import Reader

KINDS = {"image": 1, "masks": 1}


@pytest.fixture
def annotated(tmp_path: Path) -> Made:
    shards = [
        ("vos", "train", [9, 3, 12], KINDS),
        ("vos", "train", [20], {"image": 1}),
        ("photos", "train", [1] * 5, KINDS),
    ]
    return make_store(tmp_path / "s", shards, about={"vos": {"frame_step": 5}})


def test_layouts_and_orders(annotated: Made) -> None:
    reader = Reader(annotated, AnnotatedVideoConfig(frames=4, strides=[5, 10]))
    expected = {
        "interleaved/discriminative/vos/masks": ["image", "masks"] * 4,
        "interleaved/generative/vos/masks": ["masks", "image"] * 4,
        "grouped/discriminative/vos/masks": ["image"] * 4 + ["masks"] * 4,
        "grouped/generative/vos/masks": ["masks"] * 4 + ["image"] * 4,  # masks to frames
    }
    assert {t.name: t.kinds for t in reader.types} == expected
    for t, kind in enumerate(reader.types):
        assert (kind.n_items, kind.left_out) == (2, {"fewer than 4 frames": 1})
        strides = set()
        for row in ([annotated.pictures[i] for i in row] for row in reader.read(t, n=200)):
            assert [label[1] for label in row] == kind.kinds
            assert {label[0] for label in row} == {"vos.0"}
            frames, masks = ([r for _, k, _, r in row if k == name] for name in KINDS)
            assert frames == masks
            steps = {b - a for a, b in pairwise(frames)}
            assert len(steps) == 1
            assert frames[0] // 9 == frames[-1] // 9 or frames[0] >= 12
            strides |= steps
        assert strides == {1, 2}


def test_some_of_them(annotated: Made) -> None:
    config = AnnotatedVideoConfig(frames=2, layouts=["grouped"], orders=["generative"], sampling="uniform")
    assert [t.name for t in Reader(annotated, config).types] == ["grouped/generative/vos/masks"]
    assert Reader(annotated, AnnotatedVideoConfig(frames=2, kinds=["depth"])).types == []
    with pytest.raises(ValueError, match="stride 7 is no multiple of 5"):
        Reader(annotated, AnnotatedVideoConfig(strides=[7]))


def test_stores_that_kept_other_frames_of_one_source(tmp_path: Path) -> None:
    """A stride of 10 is two kept frames of one store, and one of the other."""
    shards = []
    for step in (5, 10):
        made = make_store(tmp_path / f"{step}", [("vos", "train", [12], KINDS)], about={"vos": {"frame_step": step}})
        shards += made.store.select("train")
    config = AnnotatedVideoConfig(frames=3, strides=[10], layouts=["grouped"], orders=["discriminative"])
    steps = []
    for kind in AnnotatedVideo.expand(config, shards, Columns()):
        assert kind.n_items == 1
        _, rows = kind.cells(np.zeros((1, 1), np.int64), Draws(0, np.arange(1)))
        steps.append(np.diff(rows[0, :3]).tolist())
    assert steps == [[2, 2], [1, 1]]
