"""Pairs are two kinds of one frame, each once per epoch; a sentence may pin a variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lvmlite.data.sentences import PairsConfig

from ..toys import Made, make_store
from .reader import Reader


def test_pairs_expand_to_source_kind_and_order(made: Made) -> None:
    names = {t.name: t.n_items for t in Reader(made, PairsConfig(pairs=2)).types}
    orders = ("discriminative", "generative")
    expected = {("a", "depth"): 8, ("a", "seg"): 5, ("b", "seg"): 4}
    assert names == {f"{order}/{s}/{kind}": n for (s, kind), n in expected.items() for order in orders}
    some = Reader(made, PairsConfig(pairs=2, kinds=["seg"], orders=["generative"], sources=["a"])).types
    assert [t.name for t in some] == ["generative/a/seg"]


def test_a_pair_is_two_kinds_of_one_frame(made: Made) -> None:
    reader = Reader(made, PairsConfig(pairs=2))
    for t, kind in enumerate(reader.types):
        order, source, annotation = kind.name.split("/")
        kinds = ["image", annotation] if order == "discriminative" else [annotation, "image"]
        assert kind.kinds == kinds * 2
        assert kind.n_pictures == 4
        frames = []
        for row in reader.labels(t):
            assert [label[1] for label in row] == kind.kinds
            assert {label[2] for label in row} == {0}
            for (shard, _, _, r), (other, _, _, r2) in zip(row[::2], row[1::2]):
                assert (shard, r) == (other, r2)
                assert shard.startswith(source)
                frames.append((shard, r))
        assert len(set(frames)) == len(frames) == kind.n_items // 2 * 2


def test_a_sentence_pins_one_variant(made: Made) -> None:
    """Of a's three, the drawn ones 1 and 2, the same for all pairs of a sentence; of b's two there is one."""
    reader = Reader(made, PairsConfig(pairs=3, kinds=["seg"], orders=["discriminative"], variants="per-sentence"))
    for t, drawn in enumerate(([1, 2], [1])):
        variants = np.array([[made.pictures[i][2] for i in row] for row in reader.read(t, n=300)])
        assert (variants[:, ::2] == 0).all()
        assert (variants[:, 1::2] == variants[:, 1:2]).all()
        assert np.unique(variants[:, 1]).tolist() == drawn
    again = reader.read(0, n=300, key=1)
    assert (again != reader.read(0, n=300)).any()


def test_any_variant_may_be_pinned(made: Made) -> None:
    config = PairsConfig(pairs=2, kinds=["seg"], orders=["discriminative"], sources=["a"], variants="any-per-sentence")
    variants = np.array([[made.pictures[i][2] for i in row] for row in Reader(made, config).read(n=300)])[:, 1::2]
    assert (variants == variants[:, :1]).all()
    assert set(variants[:, 0]) == {0, 1, 2}


def test_one_variant_is_the_canonical_one(made: Made) -> None:
    reader = Reader(made, PairsConfig(pairs=1, kinds=["depth"], variants="per-sentence"))
    assert {label[2] for row in reader.labels() for label in row} == {0}


def test_only_variants_that_all_shards_have(tmp_path: Path) -> None:
    shards = [("a", "train", [1] * 3, {"image": 1, "seg": n}) for n in (4, 2)]
    made = make_store(tmp_path, shards)
    reader = Reader(made, PairsConfig(pairs=1, orders=["generative"], variants="per-sentence"))
    assert {made.pictures[i][2] for i in reader.read(n=200)[:, 0]} == {1}
