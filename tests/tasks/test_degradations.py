import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite import recipe
from lvmlite.tasks.degradations import LowLight, LowLightConfig, Noise, NoiseConfig, Rain, RainConfig

TASKS = (Noise, Rain, LowLight)


def rng(seed=0):
    return np.random.default_rng(seed)


def flat(level, size=64):
    return np.full((size, size, 3), level, np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    task=st.sampled_from(TASKS), shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 999)
)  # fmt: skip
def test_a_picture_of_the_same_shape_from_any_photo(task, shape, seed):
    task = task(task.Config(variants=3))
    assert task.variants == 3
    assert task.annotation is None
    image = rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = image.copy()
    spoilt = task.derive(image, rng(seed))
    assert spoilt.shape == image.shape
    assert spoilt.dtype == np.uint8
    assert np.array_equal(image, before)
    assert np.array_equal(spoilt, task.derive(image, rng(seed)))
    assert np.array_equal(task.read(task.render(spoilt)), spoilt)


@pytest.mark.parametrize("task", TASKS)
def test_draws_differ_in_amount(task):
    task, image = task(task.Config()), rng(1).integers(60, 200, (64, 64, 3), dtype=np.uint8)
    errors = [np.abs(task.derive(image, rng(seed)).astype(int) - image).mean() for seed in range(30)]
    assert max(errors) > 1.3 * min(errors) > 0


@pytest.mark.parametrize("sigma", [5.0, 20.0])
@pytest.mark.parametrize("shot", [0.0, 1.0])
def test_noise_has_the_stated_deviation_at_mid_grey(sigma, shot):
    task = Noise(NoiseConfig(min_sigma=sigma, max_sigma=sigma, max_shot=shot))
    noisy = task.derive(flat(128, 128), rng()).astype(float)
    assert noisy.std() == pytest.approx(sigma, rel=0.03)
    assert noisy.mean() == pytest.approx(128, abs=0.5)
    channels = noisy.reshape(-1, 3)
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.05


def test_shot_noise_grows_with_the_light_and_gaussian_does_not():
    """Draws with no shot noise and with much are told apart by the ratio of bright and dark deviations."""
    image = np.concatenate([flat(64), flat(192)])

    def ratio(max_shot, seed):
        noisy = Noise(NoiseConfig(min_sigma=8, max_sigma=8, max_shot=max_shot)).derive(image, rng(seed)).astype(float)
        return noisy[64:].std() / noisy[:64].std()

    assert all(ratio(0.0, seed) == pytest.approx(1, abs=0.05) for seed in range(5))
    ratios = [ratio(1.0, seed) for seed in range(30)]
    assert max(ratios) > 1.4
    assert max(ratios) < 1.8  # sqrt(3) if all of it is shot noise
    assert min(ratios) < 1.15


def test_noise_of_nothing_is_the_photo():
    image = rng().integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert np.array_equal(Noise(NoiseConfig(min_sigma=0, max_sigma=0)).derive(image, rng()), image)


@pytest.mark.parametrize("size", [64, 256])
def test_rain_is_bright_streaks_along_the_drawn_angle(size):
    task = Rain(RainConfig(max_haze=0, max_angle=0, min_cover=0.1, max_cover=0.1))
    for seed in range(3):
        rain = task.derive(flat(40, size), rng(seed)).astype(float)[..., 0]
        assert rain.min() == 40
        assert 120 < rain.max() <= 235
        assert 0.03 < (rain > 60).mean() < 0.3
        centred = rain - rain.mean()
        along, across = (centred[3:] * centred[:-3]).mean(), (centred[:, 3:] * centred[:, :-3]).mean()
        assert along > 0.5 * rain.var()  # upright
        assert across < 0.35 * rain.var()


def test_rain_covers_what_it_is_told_to():
    light = [
        Rain(RainConfig(max_haze=0, min_cover=cover, max_cover=cover)).derive(flat(0), rng(3)).mean()
        for cover in (0, 0.05, 0.2)
    ]
    assert light[0] == 0
    assert light[2] > 2 * light[1] > 0


def test_haze_veils_the_dark():
    task = Rain(RainConfig(min_cover=0, max_cover=0, max_haze=0.3))
    levels = [int(task.derive(flat(0), rng(seed)).max()) for seed in range(20)]
    assert 0 <= min(levels) < 20
    assert 35 < max(levels) <= 57


def test_low_light_is_the_photo_with_a_share_of_the_light():
    task = LowLight(LowLightConfig(min_exposure=0.1, max_exposure=0.1, max_gamma=1, max_sigma=0))
    image = rng().integers(0, 256, (20, 20, 3), dtype=np.uint8)
    dark = task.derive(image, rng())
    expected = 255 * (0.1 * (image / 255) ** 2.2) ** (1 / 2.2)
    assert np.abs(dark - expected).max() <= 0.51


def test_low_light_loses_at_least_its_stops_and_gains_noise():
    task = LowLight(LowLightConfig())
    darks = [task.derive(flat(200), rng(seed)) for seed in range(30)]
    means = [dark.mean() for dark in darks]
    assert 20 < min(means) < 60
    assert 60 < max(means) < 200 * 0.2 ** (1 / 2.2) + 5
    assert max(dark.std() for dark in darks) > 3


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (NoiseConfig, {"min_sigma": 60.0}, "min_sigma 60.0 must not be above max_sigma 50.0"),
        (NoiseConfig, {"max_shot": 1.5}, "max_shot"),
        (RainConfig, {"min_cover": 0.5}, "min_cover 0.5"),
        (RainConfig, {"min_length": 0.5}, "min_length 0.5"),
        (RainConfig, {"max_angle": 80.0}, "max_angle"),
        (LowLightConfig, {"min_exposure": 0.5}, "min_exposure 0.5"),
        (LowLightConfig, {"max_gamma": 0.5}, "max_gamma"),
        (LowLightConfig, {"variants": 0}, "variants"),
    ],
)
def test_bad_settings_are_refused(config, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        recipe.build(config, settings, "data.kinds.x")
    assert "\n" not in str(error.value)
