import numpy as np
import pytest
from scipy import ndimage

from lvmlite.metrics.photometric import MSE, PSNR, SSIM

RNG = np.random.default_rng(0)
TRUTH = ndimage.gaussian_filter(RNG.uniform(0, 255, (40, 31, 3)), (2, 2, 0)).astype(np.uint8)
NOISY = np.clip(TRUTH + RNG.normal(0, 12, TRUTH.shape), 0, 255).astype(np.uint8)


def value(metric, *pairs):
    metric = metric()
    for prediction, truth in pairs:
        metric.update(prediction, truth)
    return metric.compute()


def test_mse_and_psnr_by_definition():
    mse = np.mean((NOISY.astype(float) - TRUTH) ** 2)
    assert value(MSE, (NOISY, TRUTH)) == pytest.approx(mse / 255**2)
    assert value(PSNR, (NOISY, TRUTH)) == pytest.approx(20 * np.log10(255 / np.sqrt(mse)))


def test_black_against_white():
    black, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert value(PSNR, (black, white)) == 0
    assert value(MSE, (black, white)) == 1


def test_psnr_is_a_mean_over_pictures_and_at_most_100_db():
    one = value(PSNR, (NOISY, TRUTH))
    assert value(PSNR, (TRUTH, TRUTH)) == 100
    assert value(PSNR, (NOISY, TRUTH), (TRUTH, TRUTH)) == pytest.approx((one + 100) / 2)


@pytest.mark.parametrize("channel", [slice(None), 0])
def test_ssim_by_definition(channel):
    x, y = NOISY[..., channel].astype(float), TRUTH[..., channel].astype(float)

    def mean(z):
        axes = (1.5, 1.5, 0)[: z.ndim]
        return ndimage.gaussian_filter(z, axes, truncate=3.5)[5:-5, 5:-5]

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert value(SSIM, (NOISY[..., channel], TRUTH[..., channel])) == pytest.approx(expected, abs=1e-9)
    assert value(SSIM, (TRUTH, TRUTH)) == pytest.approx(1)


def test_ssim_needs_eleven_pixels():
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, got 10 x 31"):
        value(SSIM, (NOISY[:10], TRUTH[:10]))
