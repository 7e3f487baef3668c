"""Metrics of pictures as pictures.

In: uint8 (H, W) or (H, W, 3), on a scale of 0 to 255.
"""

from __future__ import annotations

import numpy as np

from lvmlite.metrics.base import Metric, ratio

_MAX_DB = 100.0


def _squared_error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return ((prediction.astype(np.float64) - truth.astype(np.float64)) / 255) ** 2


class MSE(Metric):
    """Mean squared error of values in [0, 1], over values of all pictures. State: sum, values."""

    name = "mse"
    higher_is_better = False
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_squared_error(prediction, truth).sum(), truth.size])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


class PSNR(Metric):
    """Peak signal-to-noise ratio in dB, -10 log10 MSE, mean over pictures. At most 100 dB each, which is what
    a picture equal to the truth counts. State: sum, pictures."""

    name = "psnr"
    higher_is_better = True
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        mse = _squared_error(prediction, truth).mean()
        return np.array([-10 * np.log10(max(mse, 10 ** (-_MAX_DB / 10))), 1.0])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


class SSIM(Metric):
    """Structural similarity (Wang et al., 2004), mean over pictures: Gaussian window of 11 pixels, sigma 1.5,
    inside the picture only; K1 = 0.01, K2 = 0.03; channels averaged. State: sum, pictures."""

    name = "ssim"
    higher_is_better = True
    _shape = (2,)

    @staticmethod
    def measure(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Raises ValueError for a picture of less than 11 pixels a side."""
        if min(truth.shape[:2]) < 11:
            raise ValueError(f"ssim needs pictures of at least 11 x 11 pixels, got {truth.shape[0]} x {truth.shape[1]}")
        x, y = prediction.astype(np.float64), truth.astype(np.float64)
        mx, my = _window(x), _window(y)
        vx, vy, cov = _window(x * x) - mx * mx, _window(y * y) - my * my, _window(x * y) - mx * my
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        similarity = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
        return np.array([similarity.mean(), 1.0])

    @staticmethod
    def value(state: np.ndarray) -> float:
        return ratio(state[0], state[1])


def _window(x: np.ndarray) -> np.ndarray:
    """Weighted mean of 11 x 11 windows: (H, W, ...) -> (H - 10, W - 10, ...)."""
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        x = np.lib.stride_tricks.sliding_window_view(x, 11, axis=axis) @ weights
    return x
