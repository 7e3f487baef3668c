"""AlexNet's convolutional layers, as LPIPS reads them.

In: pictures (B, 3, H, W) float, normalised as the reader wants them, H and W at least 31. Out: five feature maps.
Names of parameters are torchvision's (`features.N.weight`). Krizhevsky 2014, "One weird trick", in one column.
"""

from __future__ import annotations

from torch import Tensor, nn


class AlexNet(nn.Module):
    """Attributes: channels of the maps; min_size: the least side of a picture; taps: layers that give the maps."""

    channels = (64, 192, 384, 256, 256)
    min_size = 31
    taps = (1, 4, 7, 9, 11)  # every ReLU

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, C, h, w), sides about a quarter, an eighth, and a sixteenth three times."""
        maps = []
        for i, layer in enumerate(self.features):
            images = layer(images)
            if i in self.taps:
                maps.append(images)
        return maps
