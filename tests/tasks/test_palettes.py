import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite.tasks import palettes

SPLITS = ("train", "val", "test")


def least_distance(table):
    """Least L1 distance between two rows."""
    return min(int(np.abs(a.astype(int) - b).sum()) for a, b in itertools.combinations(table, 2))


def pairs(table):
    """The (class, colour) entries of a palette."""
    return {(k, *map(int, colour)) for k, colour in enumerate(table) if k}


def test_painter_is_the_published_formula():
    table = palettes.painter150(150)
    assert table.tolist()[:3] == [[0, 0, 0], [255, 255, 255], [255, 255, 213]]
    for i in range(150):
        assert table[i + 1].tolist() == [255 - 42 * (i // 36), 255 - 42 * ((i % 36) // 6), 255 - 42 * (i % 6)]
    assert least_distance(table) == 42


@pytest.mark.parametrize(("n", "least"), [(1, 255), (5, 255), (7, 255), (8, 127), (26, 127), (150, 63), (364, 31)])
def test_distinct_is_as_far_apart_as_stated(n, least):
    table = palettes.distinct(n)
    assert table.shape == (n + 1, 3)
    assert not table[0].any()
    assert least_distance(table) >= least
    assert np.array_equal(table, palettes.distinct(364)[: n + 1])


@pytest.mark.parametrize("n", [1, 2, 5, 13, 14, 31, 62, 107, 150, 255])
def test_drawn_colours_are_distinct_and_apart(n):
    least = 127 if n <= 13 else 42 if n <= 150 else 1
    for split in SPLITS:
        table = palettes.drawn(n, 1, split, 0)
        assert table.shape == (n + 1, 3)
        assert not table[0].any()
        assert least_distance(table) >= least


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 110),
    seed=st.integers(0, 2**32),
    variant=st.integers(1, 10_000),
    split=st.sampled_from(SPLITS),
)
def test_every_draw_succeeds(n, seed, variant, split):
    assert len(np.unique(palettes.drawn(n, variant, split, seed), axis=0)) == n + 1


@pytest.mark.parametrize(("n", "seed"), [(2, 0), (4, 0), (5, 1), (20, 3)])
def test_splits_share_no_colour_of_a_class_yet_all_colours_and_classes(n, seed):
    seen = {split: [palettes.drawn(n, v, split, seed) for v in range(1, 150)] for split in SPLITS}
    entries = {split: set().union(*map(pairs, tables)) for split, tables in seen.items()}
    for a, b in itertools.combinations(SPLITS, 2):
        assert not entries[a] & entries[b]
    colours = {split: {entry[1:] for entry in entries[split]} for split in SPLITS}
    if n >= 4:
        assert colours["test"] <= colours["train"]
    assert len({table.tobytes() for table in seen["train"]}) > (20 if n == 2 else 140)


def test_draws_depend_on_seed_split_and_variant_only():
    first = palettes.drawn(5, 1, "train", 0)
    assert np.array_equal(first, palettes.drawn(5, 1, "train", 0))
    for other in (
        palettes.drawn(5, 2, "train", 0),
        palettes.drawn(5, 1, "test", 0),
        palettes.drawn(5, 1, "train", 1),
    ):
        assert not np.array_equal(first, other)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    n=st.integers(1, 150),
    distance=st.sampled_from(["l1", "l2"]),
    seed=st.integers(0, 99),
)
def test_nearest_equals_brute_force(shape, n, distance, seed):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    table = rng.integers(0, 256, (n + 1, 3)).astype(np.uint8)
    gap = np.abs(picture[:, :, None].astype(int) - table.astype(int)) ** (1 if distance == "l1" else 2)
    assert np.array_equal(palettes.nearest(picture, table, distance), gap.sum(-1).argmin(-1))


def test_nearest_reads_more_than_one_chunk_and_more_than_255_classes():
    table = palettes.distinct(300)
    ids = np.arange(150 * 150).reshape(150, 150) % 301
    read = palettes.nearest(palettes.paint(ids, table), table)
    assert read.dtype == np.uint16
    assert np.array_equal(read, ids)
