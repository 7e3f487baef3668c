"""Single and random sentences see every picture once per epoch."""

from __future__ import annotations

from lvmlite.data.sentences import RandomConfig, SingleConfig

from ..toys import Made
from .reader import Reader


def test_single_reads_every_photo_once(made: Made) -> None:
    reader = Reader(made, SingleConfig())
    assert [t.name for t in reader.types] == ["single"]
    assert reader.types[0].n_items == 5 + 38 + 3 + 4
    assert set(reader.read().ravel()) == made.numbers(kind="image")


def test_single_of_kinds_reads_each_canonical_picture_once(made: Made) -> None:
    numbers = Reader(made, SingleConfig(kinds=["seg", "image", "seg"], sources=["a", "b"])).read().ravel()
    expected = {i for i in made.numbers(variant=0) if made.pictures[i][0][0] in "ab" and made.pictures[i][1] != "depth"}
    assert len(numbers) == len(expected) == 5 + 4 + 12
    assert expected - made.numbers(shard="clips") == set(numbers) - made.numbers(shard="clips") == set(numbers)


def test_random_reads_consecutive_items(made: Made) -> None:
    single, several = Reader(made, SingleConfig()), Reader(made, RandomConfig(pictures=7))
    assert several.types[0].n_pictures == several.types[0].items_per_sentence == 7
    assert several.types[0].kinds == ["image"] * 7
    assert several.read().ravel().tolist() == single.read().ravel()[:49].tolist()
