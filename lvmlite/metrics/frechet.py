"""Distances between two sets of pictures, seen through the features of a frozen net: Fréchet (FID) and kernel (KID).

In: features (N, D) float of either set, for FID and KID those of `lvmlite.perception.inception`. Out: a number, 0 for
sets that are alike. FID falls with N, so that two are compared at equal N only; KID does not, and is the one to read
below 10,000 pictures.

    real, made = Moments(2048), Moments(2048)
    for features in batches_of_photos:
        real.update(features)
    ...
    frechet_distance(real, made)

Neither is in METRICS: what they judge is a set, while a `Metric` adds up single pictures.

Papers: FID, Heusel et al., NeurIPS 2017 (arXiv 1706.08500); KID, Binkowski et al., ICLR 2018 (arXiv 1801.01401).
"""

from __future__ import annotations

import numpy as np


class Moments:
    """Number, mean and covariance of feature vectors. Parts of a set may be counted apart and merged.

    Plain sums, so that ranks may add theirs. In float64 their rounding is about 1e-16 (mean / deviation)^2 of the
    covariance: nothing for pool3 features, whose mean is of the size of their deviation.

    Attributes:
        count: vectors counted.
        total: (D,) float64, their sum.
        outer: (D, D) float64, the sum of their outer products.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.total = np.zeros(dim)
        self.outer = np.zeros((dim, dim))

    @property
    def dim(self) -> int:
        return len(self.total)

    def update(self, features: np.ndarray) -> None:
        """Count features (N, D) float, N = 0 allowed.

        Raises:
            ValueError: another shape than (N, D), or values that are not finite.
        """
        x = _checked(features, "features")
        if x.shape[1] != self.dim:
            raise ValueError(f"features have {x.shape[1]} dimensions, but {self.dim} are being counted")
        self.count += len(x)
        self.total += x.sum(axis=0)
        self.outer += x.T @ x

    def merge(self, other: Moments) -> None:
        """Count all that `other` has counted. `other` is unchanged.

        Raises:
            ValueError: it counts features of another dimension.
        """
        _same_dim(self.dim, other.dim)
        self.count += other.count
        self.total += other.total
        self.outer += other.outer

    def mean(self) -> np.ndarray:
        """(D,) float64. Raises ValueError for fewer than 2 pictures."""
        if self.count < 2:
            raise ValueError(f"a set of {self.count} pictures has no covariance: count at least 2")
        return self.total / self.count

    def cov(self) -> np.ndarray:
        """Unbiased covariance, (D, D) float64. Raises ValueError for fewer than 2 pictures."""
        mean = self.mean()
        return (self.outer - self.count * np.outer(mean, mean)) / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the squared Fréchet distance of two Gaussians; >= 0.

    With C = L L', the trace of the root is the sum of the singular values of L_a' L_b. So no root of a product is
    taken, which is no symmetric matrix and in a set of fewer pictures than dimensions a singular one.

    Raises:
        ValueError: a set of fewer than 2 pictures, or features of different dimensions.
    """
    _same_dim(a.dim, b.dim)
    gap = a.mean() - b.mean()
    cov_a, cov_b = a.cov(), b.cov()
    root = np.linalg.svd(_factor(cov_a).T @ _factor(cov_b), compute_uv=False).sum()
    return max(float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * root), 0.0)


def kernel_distance(
    x: np.ndarray, y: np.ndarray, subsets: int, subset_size: int, rng: np.random.Generator
) -> tuple[float, float]:
    """KID: the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, unbiased, so that it may be below 0.

    Args:
        x: features (N, D) float.
        y: features (M, D) float.
        subsets: how often it is estimated; published: 100.
        subset_size: vectors drawn from x and from y for each estimate, without replacement; published: 1000.
        rng: of the draws.

    Returns:
        Mean and standard deviation (divided by the number) of the estimates.

    Raises:
        ValueError: features of different dimensions or not finite, fewer than 2 pictures in a subset, or more than
            there are.
    """
    x, y = _checked(x, "x"), _checked(y, "y")
    _same_dim(x.shape[1], y.shape[1])
    if subsets < 1:
        raise ValueError(f"{subsets} subsets give no estimate: ask for at least 1")
    if not 2 <= subset_size <= min(len(x), len(y)):
        raise ValueError(f"subset_size {subset_size}: allowed are 2 to the pictures there are, {len(x)} and {len(y)}")
    estimates = [
        _discrepancy(*(features[rng.permutation(len(features))[:subset_size]] for features in (x, y)))
        for _ in range(subsets)
    ]
    return float(np.mean(estimates)), float(np.std(estimates))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD of two sets (N, D) of one size: pairs of a vector with itself are left out."""
    n = len(x)
    within = sum(k.sum() - np.trace(k) for k in (_kernel(x, x), _kernel(y, y)))
    return float(within / (n * (n - 1)) - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    k: np.ndarray = (x @ y.T / x.shape[1] + 1) ** 3
    return k


def _factor(cov: np.ndarray) -> np.ndarray:
    """L (D, rank) with L L' = cov. Eigenvalues within rounding of 0 count as 0."""
    values, vectors = np.linalg.eigh(cov)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def _checked(features: np.ndarray, name: str) -> np.ndarray:
    """The features as float64 (N, D)."""
    if features.ndim != 2:
        raise ValueError(f"{name}: one row per picture (N, D) is needed, got shape {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} of {(~np.isfinite(features)).any(axis=1).sum()} pictures are not finite")
    return features.astype(np.float64)


def _same_dim(a: int, b: int) -> None:
    if a != b:
        raise ValueError(f"features of {a} and of {b} dimensions cannot be compared: take both from one net")
