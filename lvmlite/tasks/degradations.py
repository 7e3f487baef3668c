"""Degradations: pictures derived from a photo by what spoils photos: noise, rain, too little light.

In: a fitted photo, uint8 RGB (H, W, 3). Out: the same photo, spoilt, by an amount drawn per picture. The task proper is
the generative order of a pair: [noisy, photo] is denoising. As in LVM (Bai et al., CVPR 2024), whose noise, rain and
low light came with data sets; where there are real pairs, `paired` shows them. Lengths grow with the picture, so that
64 and 256 pixels show the same scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from lvmlite.recipe import Range
from lvmlite.tasks.paired import Picture

Rng = np.random.Generator


@dataclass(frozen=True)
class NoiseConfig:
    """
    Attributes:
        min_sigma, max_sigma: standard deviation of the noise at mid grey, in levels of 255; the usual range of blind
            denoising is 0 to 55 (DnCNN, Zhang et al., TIP 2017).
        max_shot: up to which share of the variance is shot noise, proportional to brightness; the rest is the same
            everywhere.
        variants: how many draws of each photo a store holds.
    """

    task: Literal["noise"] = "noise"
    min_sigma: Annotated[float, Range(0, 255)] = 10.0
    max_sigma: Annotated[float, Range(0, 255)] = 50.0
    max_shot: Annotated[float, Range(0, 1)] = 1.0
    variants: Annotated[int, Range(1)] = 1

    def __post_init__(self) -> None:
        _ordered("sigma", self.min_sigma, self.max_sigma)


class Degradation(Picture):
    """A photo spoilt; the annotation is the spoilt picture itself."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.variants = config.variants


class Noise(Degradation):
    """Gaussian and shot noise, independent in every channel; `read` and `render` are the identity."""

    Config: ClassVar = NoiseConfig

    def derive(self, image: np.ndarray, rng: Rng) -> np.ndarray:
        """The photo with noise, uint8 (H, W, 3)."""
        sigma = rng.uniform(self.config.min_sigma, self.config.max_sigma)
        return _levels(_noisy(image.astype(np.float32), sigma, rng.uniform(0, self.config.max_shot), rng))


@dataclass(frozen=True)
class RainConfig:
    """
    Attributes:
        min_cover, max_cover: the share of the picture that streaks lie on, were none to cross.
        min_length, max_length: of streaks, as a share of the picture's height.
        max_angle: how far the rain may fall from upright, degrees.
        max_haze: how much of the light the distant rain may scatter.
        variants: how many draws of each photo a store holds.
    """

    task: Literal["rain"] = "rain"
    min_cover: Annotated[float, Range(0, 1)] = 0.05
    max_cover: Annotated[float, Range(0, 1)] = 0.25
    min_length: Annotated[float, Range(0.01, 1)] = 0.06
    max_length: Annotated[float, Range(0.01, 1)] = 0.2
    max_angle: Annotated[float, Range(0, 60)] = 25.0
    max_haze: Annotated[float, Range(0, 0.9)] = 0.25
    variants: Annotated[int, Range(1)] = 1

    def __post_init__(self) -> None:
        _ordered("cover", self.min_cover, self.max_cover)
        _ordered("length", self.min_length, self.max_length)


_RAIN_LIGHT = 235.0  # grey level of a streak that hides what is behind it
_HAZE_LIGHT = 190.0


class Rain(Degradation):
    """Bright streaks that let the photo through, nearly parallel, over a slight haze; `read` and `render` are the
    identity."""

    Config: ClassVar = RainConfig

    def derive(self, image: np.ndarray, rng: Rng) -> np.ndarray:
        """The photo in the rain, uint8 (H, W, 3)."""
        haze = rng.uniform(0, self.config.max_haze)
        x = image.astype(np.float32) * np.float32(1 - haze) + np.float32(haze * _HAZE_LIGHT)
        cover = self._streaks(image.shape[0], image.shape[1], rng)[..., None]
        return _levels(x + cover * (np.float32(_RAIN_LIGHT) - x))

    def _streaks(self, height: int, width: int, rng: Rng) -> np.ndarray:
        """How much of each pixel rain hides, (H, W) float32 in [0, 0.85].

        A streak is a row of dots a third of a pixel apart, each shared among the four pixels around it: about one
        pixel wide at any angle, wider in large pictures, faint at both ends.
        """
        config = self.config
        angle = rng.uniform(-config.max_angle, config.max_angle)
        cover = rng.uniform(config.min_cover, config.max_cover)
        thick = max(1.0, height / 160)  # pixels
        mean_length = max(2.0, height * (config.min_length + config.max_length) / 2)
        n = int(rng.poisson(cover * height * width / (mean_length * thick)))
        length = np.maximum(2.0, height * rng.uniform(config.min_length, config.max_length, n))
        tilt = np.radians(angle + rng.normal(0, 2, n))
        dx, dy = np.sin(tilt), np.cos(tilt)
        x = rng.uniform(-0.1 * width, 1.1 * width, n)
        y = rng.uniform(-0.1 * height, 1.1 * height, n)
        strength = rng.uniform(0.25, 0.9, n)  # a streak of strength 1 would hide what is behind it
        across = np.arange(int(np.ceil(thick))) - (np.ceil(thick) - 1) / 2
        along = np.linspace(-0.5, 0.5, int(np.ceil(3 * length.max(initial=2.0))))
        place = length[:, None] * along  # (n, dots)
        weight = strength[:, None] * length[:, None] / len(along) * np.cos(np.pi * along) ** 0.5
        layer = np.zeros((height + 2, width + 2))
        for shift in across:
            dots_x = x[:, None] + place * dx[:, None] + shift * dy[:, None]
            dots_y = y[:, None] + place * dy[:, None] - shift * dx[:, None]
            _splat(layer, dots_x, dots_y, weight)
        return np.minimum(layer[1:-1, 1:-1], 0.85).astype(np.float32)


def _splat(layer: np.ndarray, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> None:
    """Add dots to `layer` (H + 2, W + 2), a picture with a margin of one pixel, bilinearly; those outside are lost."""
    left, top = np.floor(x - 0.5), np.floor(y - 0.5)
    right_share, low_share = x - 0.5 - left, y - 0.5 - top
    columns, rows = left.astype(np.int64) + 1, top.astype(np.int64) + 1
    inside = (columns >= 0) & (columns < layer.shape[1] - 1) & (rows >= 0) & (rows < layer.shape[0] - 1)
    flat = rows[inside] * layer.shape[1] + columns[inside]
    w, right, low = weight[inside], right_share[inside], low_share[inside]
    for step, share in (
        (0, (1 - right) * (1 - low)),
        (1, right * (1 - low)),
        (layer.shape[1], (1 - right) * low),
        (layer.shape[1] + 1, right * low),
    ):
        layer += np.bincount(flat + step, w * share, layer.size).reshape(layer.shape)


@dataclass(frozen=True)
class LowLightConfig:
    """
    Attributes:
        min_exposure, max_exposure: how much of the light is left, drawn evenly in stops.
        max_gamma: from 1, by how much the dark parts sink deeper, as in synthetic pairs (Lv et al., IJCV 2021).
        max_sigma: standard deviation of the noise at mid grey, in levels of 255.
        variants: how many draws of each photo a store holds.
    """

    task: Literal["low_light"] = "low_light"
    min_exposure: Annotated[float, Range(1e-3, 1)] = 0.03
    max_exposure: Annotated[float, Range(1e-3, 1)] = 0.2
    max_gamma: Annotated[float, Range(1, 5)] = 1.5
    max_sigma: Annotated[float, Range(0, 255)] = 8.0
    variants: Annotated[int, Range(1)] = 1

    def __post_init__(self) -> None:
        _ordered("exposure", self.min_exposure, self.max_exposure)


class LowLight(Degradation):
    """The photo taken with a fraction of the light, and noise; `read` and `render` are the identity."""

    Config: ClassVar = LowLightConfig

    def derive(self, image: np.ndarray, rng: Rng) -> np.ndarray:
        """The dark photo, uint8 (H, W, 3). Light is (level / 255) ^ 2.2."""
        exposure = np.exp(rng.uniform(np.log(self.config.min_exposure), np.log(self.config.max_exposure)))
        gamma = rng.uniform(1, self.config.max_gamma)
        dark = 255 * (image.astype(np.float32) / 255) ** np.float32(gamma) * np.float32(exposure ** (1 / 2.2))
        return _levels(_noisy(dark, rng.uniform(0, self.config.max_sigma), 0.5, rng))


def _noisy(x: np.ndarray, sigma: float, shot: float, rng: Rng) -> np.ndarray:
    """Float32 levels with Gaussian noise of variance sigma^2 ((1 - shot) + shot * level / 127.5): a sensor's, whose
    shot noise grows with the light (Foi et al., TIP 2008)."""
    deviation = np.float32(sigma) * np.sqrt(np.float32(1 - shot) + np.float32(shot / 127.5) * x)
    return x + deviation * rng.standard_normal(x.shape, dtype=np.float32)


def _levels(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _ordered(what: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"min_{what} {low} must not be above max_{what} {high}")
