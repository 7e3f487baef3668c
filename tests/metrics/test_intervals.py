import math

import numpy as np
import pytest
from scipy import stats

from lvmlite.metrics import METRICS, bootstrap, mean_interval, proportion_interval
from lvmlite.metrics.intervals import t_quantile


def accuracies(rights, totals):
    groups = []
    for right, total in zip(rights, totals):
        metric = METRICS["pixel_accuracy"]()
        metric.state[:] = right, total
        groups.append(metric)
    return groups


def test_bootstrap_equals_merging_the_resampled_groups():
    rng = np.random.default_rng(1)
    groups = []
    for _ in range(12):
        metric = METRICS["miou"]()
        truth = rng.integers(0, rng.integers(2, 9), (6, 6))
        metric.update(np.where(rng.random((6, 6)) < 0.6, truth, 1), truth)
        groups.append(metric)
    values = []
    for times in np.random.default_rng(7).multinomial(12, np.full(12, 1 / 12), size=50):
        total = METRICS["miou"]()
        for group, n in zip(groups, times):
            for _ in range(n):
                total.merge(group)
        values.append(total.compute())
    assert bootstrap(groups, n=50, seed=7) == pytest.approx(np.quantile(values, [0.025, 0.975]))
    assert bootstrap(groups, n=50, seed=7) == bootstrap(groups, n=50, seed=7)
    assert bootstrap(groups, n=50, seed=8) != bootstrap(groups, n=50, seed=7)


def test_bootstrap_is_about_the_normal_interval_of_a_mean():
    right = np.random.default_rng(0).binomial(10, 0.7, 400)
    low, high = bootstrap(accuracies(right, np.full(400, 10)), n=4000)
    error = right.std() / 10 / math.sqrt(400)
    assert (low, high) == pytest.approx(
        (right.mean() / 10 - 1.96 * error, right.mean() / 10 + 1.96 * error), abs=0.1 * error
    )


def test_bootstrap_of_many_groups_is_drawn_in_chunks(monkeypatch):
    groups = accuracies(range(20), [20] * 20)
    whole = bootstrap(groups, n=100)
    monkeypatch.setattr("lvmlite.metrics.intervals._CELLS", 140)
    assert bootstrap(groups, n=100) == whole


def test_bootstrap_of_too_little():
    assert all(map(math.isnan, bootstrap([])))
    assert all(map(math.isnan, bootstrap(accuracies([1], [2]))))
    assert all(map(math.isnan, bootstrap(accuracies([0, 0], [0, 0]))))
    assert bootstrap(accuracies([0, 1], [0, 2])) == (
        0.5,
        0.5,
    )  # resamples of the empty group alone are left out


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 10), (64, 256), (999, 1000)])
def test_proportion_is_wilson_as_scipy_has_it(k, n):
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert proportion_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    expected = stats.binomtest(k, n).proportion_ci(0.8, method="wilson")
    assert proportion_interval(k, n, 0.8) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_proportion_of_nothing_and_of_nonsense():
    assert proportion_interval(0, 0) == (0, 1)
    for k, n in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="successes in 3 trials"):
            proportion_interval(k, n)


@pytest.mark.parametrize("degrees", [*range(1, 12), 29, 30, 99, 1000, 99_999])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_t_quantile_is_scipys(confidence, degrees):
    assert t_quantile(confidence, degrees) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_mean_interval_is_scipys(n):
    x = np.random.default_rng(n).normal(3, 2, n)
    mean, low, high = mean_interval(x)
    assert mean == pytest.approx(x.mean())
    assert (low, high) == pytest.approx(stats.t.interval(0.95, n - 1, x.mean(), stats.sem(x)))


def test_mean_interval_of_one_and_of_none():
    mean, low, high = mean_interval([2.0])
    assert mean == 2
    assert math.isnan(low)
    assert math.isnan(high)
    with pytest.raises(ValueError, match="at least one number"):
        mean_interval([])
