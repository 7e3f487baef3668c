"""Ties count their share, the first row is apart, and intervals cover what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvmlite.evaluate.protocols.likelihood import credit, nats, share
from lvmlite.metrics import proportion_interval


def test_credit():
    assert credit(np.array([-5.0, -1, -3]), 1) == 1
    assert credit(np.array([-5.0, -1, -3]), 0) == 0
    assert credit(np.zeros(4), 2) == 0.25
    assert credit(np.array([0, 1e-9, -1]), 0) == 0.5


def test_nats_of_the_first_row_and_the_rest():
    logp = -np.arange(12.0).reshape(2, 6)
    first, rest = nats(logp, 2)
    np.testing.assert_allclose(first, [0.5, 6.5])
    np.testing.assert_allclose(rest, [3.5, 9.5])


def test_share_counts_dependent_trials_once():
    """Trials that agree within a group are worth one; independent ones are worth each their own."""
    rng = np.random.default_rng(0)
    alone = (rng.random((200, 1)) < 0.6).astype(float)
    copied = np.repeat(alone, 4, axis=1)
    assert share(copied) == pytest.approx(share(alone), rel=0.02)
    apart = (rng.random((200, 4)) < 0.6).astype(float)
    p, low, high = share(apart)
    expected = proportion_interval(round(p * 800), 800)
    assert (low, high) == pytest.approx(expected, abs=0.01)


def test_share_where_all_agree_rests_on_the_groups():
    assert share(np.ones((6, 4))) == (1.0, proportion_interval(6, 6)[0], 1.0)
    assert share(np.zeros((6, 4)))[2] == proportion_interval(0, 6)[1]
    p, low, high = share(np.array([[1.0, 0, 0, 1]]))
    assert p == 0.5
    assert low < 0.2
    assert high > 0.8


@given(st.integers(1, 6), st.integers(1, 4), st.randoms())
def test_share_lies_in_its_interval(groups, trials, random):
    credits = np.array([[random.choice([0, 0.25, 0.5, 1]) for _ in range(trials)] for _ in range(groups)])
    p, low, high = share(credits)
    assert 0 <= low <= p + 1e-12
    assert p - 1e-12 <= high <= 1
