"""Inception-v3 as FID reads it: the frozen TensorFlow graph of 2015-12-05, in PyTorch.

In: images (B, 3, H, W) float in [0, 1]. Out: pool3 features (B, 2048) float, for `lvmlite.metrics.frechet`.

Parameter names and results are those of pytorch-fid. The graph departs from Inception-v3 as published:
- average pooling does not count the padding;
- the last block pools by the maximum;
- the classifier has 1008 logits. It is here for its weights only; no feature passes through it.

Resizing is pytorch-fid's too: bilinear to 299 x 299, without antialiasing. clean-fid resizes with an antialiased
bicubic filter, so its numbers differ and must not be mixed with these. Published numbers read 8-bit pictures: round a
reconstruction to the 256 levels first.

Papers: Szegedy et al., CVPR 2016 (arXiv 1512.00567); FID, Heusel et al., NeurIPS 2017 (arXiv 1706.08500).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM = 2048
SIDE = 299


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU. Keeps the size, unless `valid`: then it does not pad."""

    def __init__(self, n_in: int, n_out: int, kernel: tuple[int, int] = (1, 1), stride: int = 1, valid: bool = False):
        super().__init__()
        padding = (0, 0) if valid else (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(n_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


class BlockA(nn.Module):
    """35 x 35: n_in -> 224 + n_pool channels."""

    def __init__(self, n_in: int, n_pool: int):
        super().__init__()
        self.branch1x1 = Conv(n_in, 64)
        self.branch5x5_1 = Conv(n_in, 48)
        self.branch5x5_2 = Conv(48, 64, (5, 5))
        self.branch3x3dbl_1 = Conv(n_in, 64)
        self.branch3x3dbl_2 = Conv(64, 96, (3, 3))
        self.branch3x3dbl_3 = Conv(96, 96, (3, 3))
        self.branch_pool = Conv(n_in, n_pool)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(average(x))], 1)


class BlockB(nn.Module):
    """35 x 35 -> 17 x 17: n_in -> 480 + n_in channels."""

    def __init__(self, n_in: int):
        super().__init__()
        self.branch3x3 = Conv(n_in, 384, (3, 3), stride=2, valid=True)
        self.branch3x3dbl_1 = Conv(n_in, 64)
        self.branch3x3dbl_2 = Conv(64, 96, (3, 3))
        self.branch3x3dbl_3 = Conv(96, 96, (3, 3), stride=2, valid=True)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, halve(x)], 1)


class BlockC(nn.Module):
    """17 x 17: 768 -> 768 channels, n_mid within the branches."""

    def __init__(self, n_mid: int):
        super().__init__()
        self.branch1x1 = Conv(768, 192)
        self.branch7x7_1 = Conv(768, n_mid)
        self.branch7x7_2 = Conv(n_mid, n_mid, (1, 7))
        self.branch7x7_3 = Conv(n_mid, 192, (7, 1))
        self.branch7x7dbl_1 = Conv(768, n_mid)
        self.branch7x7dbl_2 = Conv(n_mid, n_mid, (7, 1))
        self.branch7x7dbl_3 = Conv(n_mid, n_mid, (1, 7))
        self.branch7x7dbl_4 = Conv(n_mid, n_mid, (7, 1))
        self.branch7x7dbl_5 = Conv(n_mid, 192, (1, 7))
        self.branch_pool = Conv(768, 192)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average(x))], 1)


class BlockD(nn.Module):
    """17 x 17 -> 8 x 8: 768 -> 1280 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(768, 192)
        self.branch3x3_2 = Conv(192, 320, (3, 3), stride=2, valid=True)
        self.branch7x7x3_1 = Conv(768, 192)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = Conv(192, 192, (3, 3), stride=2, valid=True)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), halve(x)], 1)


class BlockE(nn.Module):
    """8 x 8: n_in -> 2048 channels. The graph's last block pools by the maximum."""

    def __init__(self, n_in: int, last: bool):
        super().__init__()
        self.branch1x1 = Conv(n_in, 320)
        self.branch3x3_1 = Conv(n_in, 384)
        self.branch3x3_2a = Conv(384, 384, (1, 3))
        self.branch3x3_2b = Conv(384, 384, (3, 1))
        self.branch3x3dbl_1 = Conv(n_in, 448)
        self.branch3x3dbl_2 = Conv(448, 384, (3, 3))
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1))
        self.branch_pool = Conv(n_in, 192)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.last else average(x)
        branches = (
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        )
        return torch.cat(branches, 1)


class FIDInception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, (3, 3), stride=2, valid=True)
        self.Conv2d_2a_3x3 = Conv(32, 32, (3, 3), valid=True)
        self.Conv2d_2b_3x3 = Conv(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, (3, 3), valid=True)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(128)
        self.Mixed_6c = BlockC(160)
        self.Mixed_6d = BlockC(160)
        self.Mixed_6e = BlockC(192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, last=False)
        self.Mixed_7c = BlockE(DIM, last=True)
        self.fc = nn.Linear(DIM, 1008)

    def forward(self, images: Tensor) -> Tensor:
        """Pool3 features (B, 2048) of images (B, 3, H, W) float in [0, 1], of any size."""
        x = 2 * F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1
        x = halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


def open_inception(device: torch.device) -> FIDInception:
    """The net with its published weights, in evaluation mode and frozen. Draws no random number."""
    from lvmlite import weights

    with torch.device("meta"):
        net = FIDInception()
    net.load_state_dict(weights.load("inception-fid"), assign=True)
    return net.to(device).eval().requires_grad_(False)
