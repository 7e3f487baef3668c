"""FID and KID: against SciPy's root of the product, NumPy's moments, and sums over pairs one by one."""

import numpy as np
import pytest
import scipy.linalg

from lvmlite.metrics.frechet import Moments, frechet_distance, kernel_distance


def features(n, dim, seed, rank=None):
    """Correlated, not negative, with a mean of the size of their deviation, as pool3 features are."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(rank or dim, dim)) / np.sqrt(dim)
    return np.abs(rng.normal(size=(n, rank or dim)) @ mix + rng.uniform(0, 1, dim)).astype(np.float32)


def flat(n, dim, rank, seed):
    """On a subspace of `rank` dimensions, the same one for every seed."""
    basis = np.random.default_rng(99).normal(size=(rank, dim))
    return np.random.default_rng(seed).normal(size=(n, rank)) @ basis + seed


def moments(*parts):
    made = Moments(parts[0].shape[1])
    for part in parts:
        made.update(part)
    return made


def by_root_of_product(x, y, jitter=0.0):
    """The published formula. `jitter` on both diagonals is the published way round a singular product."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    cov_x, cov_y = (np.cov(z, rowvar=False) + jitter * np.eye(z.shape[1]) for z in (x, y))
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cov_x + cov_y - 2 * root)


def test_moments_are_those_of_all_vectors_however_they_came():
    x = features(200, 12, 0)
    whole, merged = moments(x), moments(x[:1])
    merged.merge(moments(x[1:37], x[37:37]))
    merged.merge(moments(x[37:]))
    for made in (whole, merged):
        assert made.count == 200
        np.testing.assert_allclose(made.mean(), x.astype(np.float64).mean(0), rtol=1e-13)
        np.testing.assert_allclose(made.cov(), np.cov(x.astype(np.float64), rowvar=False), rtol=1e-11, atol=1e-14)


def test_moments_keep_their_precision_far_from_zero():
    x = 1000 + features(500, 6, 1).astype(np.float64)
    np.testing.assert_allclose(moments(x).cov(), np.cov(x, rowvar=False), atol=1e-8)


def test_merging_leaves_the_other_as_it_was():
    a, b = moments(features(5, 3, 0)), moments(features(7, 3, 1))
    before = b.outer.copy()
    a.merge(b)
    a.update(features(2, 3, 2))
    assert (a.count, b.count) == (14, 7)
    np.testing.assert_array_equal(b.outer, before)


@pytest.mark.parametrize(("n", "m", "dim"), [(400, 300, 24), (65, 500, 64), (1000, 1000, 1)])
def test_distance_is_the_published_one(n, m, dim):
    x, y = features(n, dim, 0), 1.3 * features(m, dim, 1) + 0.1
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(by_root_of_product(x, y), rel=1e-7)


@pytest.mark.parametrize(("n", "m", "dim"), [(10, 300, 32), (10, 12, 32)])
def test_fewer_pictures_than_dimensions(n, m, dim):
    """Here the product is singular; the reference nears the true value as its jitter does 0."""
    x, y = features(n, dim, 0), 1.3 * features(m, dim, 1) + 0.1
    ours = frechet_distance(moments(x), moments(y))
    assert ours == pytest.approx(by_root_of_product(x, y, jitter=1e-10), rel=1e-4)
    assert frechet_distance(moments(y), moments(x)) == pytest.approx(ours, rel=1e-9)


def test_features_on_a_subspace_are_compared_within_it():
    x, y = flat(100, 20, 4, 1), flat(80, 20, 4, 2)
    q = np.linalg.qr(np.random.default_rng(99).normal(size=(4, 20)).T)[0]
    rest = np.sum(((x.mean(0) - y.mean(0)) @ (np.eye(20) - q @ q.T)) ** 2)
    expected = by_root_of_product(x @ q, y @ q) + rest
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, rel=1e-9)


def test_gaussians_that_share_their_axes_by_hand():
    """Then the distance is the sum of (m_a - m_b)^2 + (s_a - s_b)^2 over axes."""
    x = scipy.linalg.hadamard(8)[:, 1:4].astype(np.float64)  # orthogonal columns of mean 0: variance 8 / 7
    y = x * [1, 3, 0] + [2, 0, 0]
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(4 + (4 + 1) * 8 / 7, rel=1e-12)


@pytest.mark.parametrize("m", [2, 3, 60])
def test_two_pictures_against_many_by_hand(m):
    """One covariance is d d' / 2, so that the trace of the root is that of d' C d / 2."""
    x, y = features(2, 20, 0).astype(np.float64), features(m, 20, 1).astype(np.float64)
    d, cov = x[1] - x[0], np.cov(y, rowvar=False)
    root = np.sqrt(d @ cov @ d / 2)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + d @ d / 2 + np.trace(cov) - 2 * root
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [8, 400])
def test_a_set_is_at_distance_0_from_itself(n):
    x = features(n, 48, 3)
    assert frechet_distance(moments(x), moments(x[::-1])) < 1e-12
    same = np.ones((4, 5))
    assert frechet_distance(moments(same), moments(same + 1)) == 5


def test_kernel_distance_is_the_sum_over_pairs():
    x, y = features(12, 7, 0), features(12, 7, 1) + 0.2

    def kernel(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b)) / 7 + 1) ** 3

    within = sum(kernel(z[i], z[j]) for z in (x, y) for i in range(12) for j in range(12) if i != j) / (12 * 11)
    across = sum(kernel(a, b) for a in x for b in y) / 144
    mean, deviation = kernel_distance(x, y, subsets=3, subset_size=12, rng=np.random.default_rng(0))
    assert mean == pytest.approx(within - 2 * across, rel=1e-10)
    assert deviation == pytest.approx(0, abs=1e-12)  # each subset is all there are


def test_kernel_distance_draws_subsets_without_replacement():
    x, y = features(60, 7, 0), features(50, 7, 1) + 0.2
    rng = np.random.default_rng(5)
    single = []
    for _ in range(4):
        a, b = x[rng.permutation(60)[:9]], y[rng.permutation(50)[:9]]
        assert len(np.unique(a, axis=0)) == 9
        single.append(kernel_distance(a, b, subsets=1, subset_size=9, rng=np.random.default_rng(0))[0])
    drawn = kernel_distance(x, y, subsets=4, subset_size=9, rng=np.random.default_rng(5))
    assert drawn == pytest.approx((np.mean(single), np.std(single)), rel=1e-9)
    assert drawn[1] > 0


def test_kernel_distance_is_unbiased():
    """Of halves of one set it is 0 on average, where the Fréchet distance is not."""
    x = features(2000, 5, 0)
    half, other = x[:1000], x[1000:]
    mean, deviation = kernel_distance(half, other, subsets=400, subset_size=20, rng=np.random.default_rng(0))
    assert abs(mean) < 4 * deviation / np.sqrt(400)
    assert frechet_distance(moments(half[:20]), moments(other[:20])) > 0.1


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda x: frechet_distance(moments(x), moments(x[:1])), "a set of 1 pictures has no covariance"),
        (lambda x: Moments(4).mean(), "a set of 0 pictures"),
        (lambda x: moments(x, x[:, :3]), "features have 3 dimensions, but 4 are being counted"),
        (lambda x: moments(x).update(x[0]), r"one row per picture \(N, D\) is needed, got shape \(4,\)"),
        (lambda x: moments(x).update(np.where(x == x[1, 2], np.nan, x)), "features of 1 pictures are not finite"),
        (lambda x: frechet_distance(moments(x), moments(x[:, :3])), "of 4 and of 3 dimensions"),
        (lambda x: moments(x).merge(moments(x[:, :3])), "of 4 and of 3 dimensions"),
        (lambda x: kernel_distance(x, x[:, :3], 1, 2, np.random.default_rng(0)), "of 4 and of 3 dimensions"),
        (lambda x: kernel_distance(x, x[:5], 1, 6, np.random.default_rng(0)), "allowed are 2 to .* 9 and 5"),
        (lambda x: kernel_distance(x, x, 1, 1, np.random.default_rng(0)), "subset_size 1"),
        (lambda x: kernel_distance(x, x, 0, 2, np.random.default_rng(0)), "0 subsets"),
    ],
)
def test_mistakes_are_named(break_it, message):
    with pytest.raises(ValueError, match=message):
        break_it(features(9, 4, 0))
