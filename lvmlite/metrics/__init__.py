"""Metrics: arithmetic on annotations read and true. A new one is a file and a line here."""

from __future__ import annotations

from lvmlite.metrics.base import Metric
from lvmlite.metrics.edges import EdgeF1
from lvmlite.metrics.geometry import DepthAbsRel, DepthAbsRelAligned, DepthDelta1, NormalAngle
from lvmlite.metrics.intervals import bootstrap, mean_interval, proportion_interval
from lvmlite.metrics.photometric import MSE, PSNR, SSIM
from lvmlite.metrics.segmentation import MeanIoU, PixelAccuracy

METRICS: dict[str, type[Metric]] = {
    "miou": MeanIoU,
    "pixel_accuracy": PixelAccuracy,
    "depth_absrel": DepthAbsRel,
    "depth_delta1": DepthDelta1,
    "depth_absrel_aligned": DepthAbsRelAligned,
    "normal_angle": NormalAngle,
    "edge_f1": EdgeF1,
    "psnr": PSNR,
    "mse": MSE,
    "ssim": SSIM,
}

__all__ = ["METRICS", "Metric", "bootstrap", "mean_interval", "proportion_interval"]
