"""Each sentence type reads the cells it says, and an epoch of its items is all there is to read."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.data import sentences
from lvmlite.data.keyed import Draws
from lvmlite.data.sentences import (
    SENTENCES,
    Columns,
    PairsConfig,
    RandomConfig,
    SentenceType,
    SingleConfig,
    Video,
    VideoConfig,
)

from .toys import Made, digits, make_store, number_of

SHARDS = [
    ("a", "train", [1] * 5, {"image": 1, "seg": 3, "depth": 1}),
    ("clips", "train", [3, 8, 7, 20], {"image": 1}),
    ("a", "train", [2, 1], {"image": 1, "depth": 1}),
    ("b", "train", [1] * 4, {"image": 1, "seg": 2}),
]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_store(tmp_path / "store", SHARDS)


class Reader:
    """The types of a config over a store, and the pictures of their sentences."""

    def __init__(self, made: Made, config: object) -> None:
        self.made, self.columns = made, Columns()
        shards = made.store.select("train", config.sources)  # type: ignore[attr-defined]
        _, kind = SENTENCES[config.sentence]  # type: ignore[attr-defined]
        self.types: list[SentenceType] = kind.expand(config, shards, self.columns)

    def read(self, t: int = 0, n: int = 0, key: int = 0) -> np.ndarray:
        """Numbers of the pictures of n sentences, by default of an epoch without shuffle: (n, pictures)."""
        kind = self.types[t]
        m = kind.items_per_sentence
        n = n or kind.n_items // m
        items = np.arange(n * m).reshape(n, m) % kind.n_items
        return number_of(self.columns.gather(*kind.cells(items, Draws(key, np.arange(n)))))[..., 0]

    def labels(self, t: int = 0) -> list[list[tuple[str, str, int, int]]]:
        return [[self.made.pictures[i] for i in row] for row in self.read(t)]


# --- columns


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
    monkeypatch.setattr(sentences, "MAX_OPEN", 10)
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


# --- single, random


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


# --- video


@pytest.mark.parametrize(
    ("pictures", "strides"), [(3, [1]), (3, [3, 1, 2]), (2, [7]), (5, [1, 2]), (8, [1, 2]), (4, [2, 30])]
)
def test_frames_of_one_clip_at_a_stride_that_fits(tmp_path: Path, pictures: int, strides: list[int]) -> None:
    """All (start, stride) that fit are drawn, and nothing else; strides that fit equally often."""
    lengths = [3, 8, 7, 20]
    made = make_store(tmp_path, [("clips", "train", lengths, {"image": 1})])
    reader = Reader(made, VideoConfig(pictures=pictures, strides=strides))
    span = pictures - 1
    fits = {i: [s for s in strides if span * s < n] for i, n in enumerate(lengths)}
    clips = [i for i, some in fits.items() if some]
    (kind,) = reader.types
    assert kind.n_items == len(clips)
    n = 4000
    rows = np.array([[made.pictures[i][3] for i in row] for row in reader.read(n=n)])
    clip = np.searchsorted(np.cumsum(lengths), rows, side="right")
    assert (clip == clip[:, :1]).all()
    assert (clip[:, 0] == np.array(clips)[np.arange(n) % len(clips)]).all()
    stride = rows[:, 1] - rows[:, 0]
    assert (np.diff(rows, axis=1) == stride[:, None]).all()
    start = rows[:, 0] - (np.cumsum(lengths) - lengths)[clip[:, 0]]
    found = set(zip(clip[:, 0].tolist(), start.tolist(), stride.tolist()))
    assert found == {(i, a, s) for i in clips for s in fits[i] for a in range(lengths[i] - span * s)}
    for i in clips:
        share = np.array([(stride[clip[:, 0] == i] == s).mean() for s in fits[i]])
        assert np.abs(share - 1 / len(fits[i])).max() < 0.1


def test_video_counts_clips_of_every_shard_that_are_long_enough(made: Made) -> None:
    shards = made.store.select("train")
    assert [Video(VideoConfig(pictures=p, strides=[1]), shards, Columns()).n_items for p in (2, 3, 4, 8, 9, 21)] == [
        5,
        4,
        3,
        2,
        1,
        0,
    ]


# --- pairs


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


def test_one_variant_is_the_canonical_one(made: Made) -> None:
    reader = Reader(made, PairsConfig(pairs=1, kinds=["depth"], variants="per-sentence"))
    assert {label[2] for row in reader.labels() for label in row} == {0}


def test_only_variants_that_all_shards_have(tmp_path: Path) -> None:
    shards = [("a", "train", [1] * 3, {"image": 1, "seg": n}) for n in (4, 2)]
    made = make_store(tmp_path, shards)
    reader = Reader(made, PairsConfig(pairs=1, orders=["generative"], variants="per-sentence"))
    assert {made.pictures[i][2] for i in reader.read(n=200)[:, 0]} == {1}


# --- configs


def test_configs_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="strides is empty"):
        VideoConfig(strides=[])


def test_every_type_has_a_default_that_names_itself() -> None:
    for name, (config, _) in SENTENCES.items():
        assert config().sentence == name


def test_the_toy_numbers_are_read_back() -> None:
    numbers = np.array([[0, 1, 63], [64, 4096, 262143]])
    assert np.array_equal(number_of(digits(numbers).reshape(2, -1)), numbers)
