"""Metrics: arithmetic on annotations read and true. A new one is a file and a line here."""

from __future__ import annotations

from lvmlite.metrics.base import Metric
from lvmlite.metrics.boundaries import BoundaryF1
from lvmlite.metrics.boxes import BoxF1, BoxIoU
from lvmlite.metrics.disparity import DisparityBad3, DisparityEPE
from lvmlite.metrics.edges import EdgeF1
from lvmlite.metrics.foreground import ForegroundIoU
from lvmlite.metrics.geometry import DepthAbsRel, DepthAbsRelAligned, DepthDelta1, NormalAngle
from lvmlite.metrics.instances import InstancePQ, PanopticQuality
from lvmlite.metrics.intervals import bootstrap, mean_interval, proportion_interval
from lvmlite.metrics.photometric import MSE, PSNR, SSIM
from lvmlite.metrics.pose import PCK, PointPCK
from lvmlite.metrics.segmentation import MeanIoU, PixelAccuracy

METRICS: dict[str, type[Metric]] = {
    "miou": MeanIoU,
    "pixel_accuracy": PixelAccuracy,
    "foreground_iou": ForegroundIoU,
    "instance_pq": InstancePQ,
    "pq": PanopticQuality,
    "box_f1": BoxF1,
    "box_iou": BoxIoU,
    "depth_absrel": DepthAbsRel,
    "depth_delta1": DepthDelta1,
    "depth_absrel_aligned": DepthAbsRelAligned,
    "normal_angle": NormalAngle,
    "disparity_epe": DisparityEPE,
    "disparity_bad3": DisparityBad3,
    "edge_f1": EdgeF1,
    "boundary_f1": BoundaryF1,
    "pck": PCK,
    "point_pck": PointPCK,
    "psnr": PSNR,
    "mse": MSE,
    "ssim": SSIM,
}

__all__ = ["METRICS", "Metric", "bootstrap", "mean_interval", "proportion_interval"]
