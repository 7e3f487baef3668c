"""The keyed bijection is one, and its shuffles and draws look random where a run would notice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lvmlite.data.keyed import SORTED, Draws, key_of, permute, uniform_integers

KEYS = st.integers(0, 2**64 - 1)
POWERS = sorted({2**k + d for k in range(1, 13) for d in (-1, 0, 1)} | {SORTED - 1, SORTED, SORTED + 1, SORTED + 2})


def shuffle(key: int, n: int) -> np.ndarray:
    return permute(np.full(n, key, np.uint64), np.arange(n), n)


def excess(counts: np.ndarray) -> float:
    """By how many standard deviations the chi-square of counts exceeds that of uniform ones."""
    freedom = counts.size - 1
    expected = counts.sum() / counts.size
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("n", POWERS)
def test_a_bijection_at_the_edges(n: int) -> None:
    for key in (0, 1, 2**64 - 1, 12345):
        assert np.array_equal(np.sort(shuffle(key, n)), np.arange(n))


@settings(deadline=None, max_examples=50)
@given(KEYS, st.integers(1, 20_000))
def test_a_bijection_of_any_range(key: int, n: int) -> None:
    assert np.array_equal(np.sort(shuffle(key, n)), np.arange(n))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(KEYS, st.integers(0, 10**6)), min_size=1, max_size=30), st.integers(1, 10**12))
@example([(7, 0), (7, 1), (8, 0)], 3)
def test_many_at_once_are_one_by_one(pairs: list[tuple[int, int]], n: int) -> None:
    keys = np.array([key for key, _ in pairs], np.uint64)
    positions = np.array([position % n for _, position in pairs])
    together = permute(keys, positions, n)
    assert together.dtype == np.int64
    assert together.min() >= 0
    assert together.max() < n
    alone = [permute(keys[i : i + 1], positions[i : i + 1], n)[0] for i in range(len(pairs))]
    assert together.tolist() == alone


def test_a_range_too_large_for_a_table() -> None:
    n = 1_500_000_000_000
    places = permute(np.full(10_000, 5, np.uint64), np.arange(10_000), n)
    assert len(np.unique(places)) == 10_000
    assert excess(np.histogram(places, 50, (0, n))[0]) < 5


@pytest.mark.parametrize("n", [10, 64, 65, 1000])
def test_keys_give_different_orders(n: int) -> None:
    """Neighbouring keys agree at about one position, as independent shuffles do; none is the identity."""
    orders = np.stack([shuffle(key, n) for key in range(200)])
    agreements = (orders[1:] == orders[:-1]).sum(1)
    assert abs(agreements.mean() - 1) < 0.4  # standard deviation of the mean is 0.07
    assert (orders != np.arange(n)).any(1).all()
    assert len(np.unique(orders, axis=0)) == 200


@pytest.mark.parametrize("n", [2, 3, 5, 6, 13, 64, 65, 66, 101])
def test_each_item_goes_everywhere(n: int) -> None:
    keys = np.arange(60_000, dtype=np.uint64)
    for position in {0, 1, n - 1}:
        counts = np.bincount(permute(keys, np.full(len(keys), position), n), minlength=n)
        assert excess(counts) < 6, position


@pytest.mark.parametrize("n", [3, 5, 6, 13, 65, 101])
def test_neighbours_are_uniform_pairs(n: int) -> None:
    """What stands side by side in a sentence: all ordered pairs of different items are equally likely."""
    keys = np.arange(200_000, dtype=np.uint64)
    first, second = (permute(keys, np.full(len(keys), p), n) for p in (0, 1))
    counts = np.bincount(first * n + second, minlength=n * n).reshape(n, n)
    assert not counts.diagonal().any()
    assert excess(counts[~np.eye(n, dtype=bool)]) < 6


def test_successive_epochs_are_independent() -> None:
    n, keys = 65, np.arange(200_000, dtype=np.uint64)
    place = permute(keys, np.zeros(len(keys), np.int64), n)
    assert excess(np.bincount(place[1:] * n + place[:-1], minlength=n * n)) < 6


@settings(deadline=None, max_examples=50)
@given(KEYS, st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 2**32 - 1)), min_size=1, max_size=50))
def test_integers_stay_below_their_bounds(key: int, draws: list[tuple[int, int]]) -> None:
    counters, bounds = (np.array(column) for column in zip(*draws))
    numbers = uniform_integers(key, counters, bounds)
    assert numbers.dtype == np.int64
    assert (numbers >= 0).all()
    assert (numbers < bounds).all()
    assert numbers.tolist() == [
        uniform_integers(key, counters[i : i + 1], bounds[i : i + 1])[0] for i in range(len(draws))
    ]


@pytest.mark.parametrize("bound", [2, 3, 10, 1000])
def test_integers_are_uniform_and_successive_ones_independent(bound: int) -> None:
    n = 200_000
    for key in (0, 1, key_of("x")):
        numbers = uniform_integers(key, np.arange(n), np.full(n, bound))
        assert excess(np.bincount(numbers, minlength=bound)) < 6
        few = numbers * 10 // bound if bound > 10 else numbers
        m = min(bound, 10)
        assert excess(np.bincount(few[1:] * m + few[:-1], minlength=m * m)) < 6


def test_draws_differ_by_name_key_and_sentence() -> None:
    n = 1000
    bounds, sentences = np.full(n, 2**31), np.arange(n)
    draws = Draws(1, sentences)
    start = draws.integers("start", bounds)
    assert np.array_equal(start, Draws(1, sentences).integers("start", bounds))
    assert len(np.unique(start)) > n - 5
    for other in (draws.integers("stride", bounds), Draws(2, sentences).integers("start", bounds)):
        assert (start == other).sum() < 3
    assert np.array_equal(Draws(1, sentences[500:]).integers("start", bounds[500:]), start[500:])


def test_keys_of_names_tell_types_and_borders_apart() -> None:
    keys = [
        key_of("a", "b"),
        key_of("ab"),
        key_of("b", "a"),
        key_of(1),
        key_of("1"),
        key_of(1, 1),
        key_of(11),
        key_of(),
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**64 for key in keys)


def test_the_order_is_the_same_everywhere() -> None:
    """A run continues on another machine, and with a later version: these numbers must never change."""
    assert key_of("single", 3) == 16068625266902067877
    assert shuffle(1, 10).tolist() == [8, 6, 9, 0, 7, 3, 5, 2, 4, 1]
    assert shuffle(1, 100)[:8].tolist() == [52, 26, 88, 90, 39, 11, 65, 9]
    assert uniform_integers(1, np.arange(6), np.full(6, 1000)).tolist() == [34, 914, 876, 923, 725, 880]
