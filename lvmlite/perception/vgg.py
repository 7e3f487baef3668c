"""VGG16's convolutional layers, as LPIPS and perceptual losses read them.

In: pictures (B, 3, H, W) float, normalised as the reader wants them, H and W at least 16. Out: five feature maps.
Names of parameters are torchvision's (`features.N.weight`). Simonyan and Zisserman 2015, configuration D.
"""

from __future__ import annotations

from torch import Tensor, nn

LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # convolutions; 0 halves the sides


class VGG16(nn.Module):
    """Attributes: channels of the maps; min_size: the least side of a picture; taps: layers that give the maps."""

    channels = (64, 128, 256, 512, 512)
    min_size = 16
    taps = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in LAYERS:
            if width:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, C, H / n, W / n) for n = 1, 2, 4, 8, 16, each after its ReLU."""
        maps = []
        for i, layer in enumerate(self.features):
            images = layer(images)
            if i in self.taps:
                maps.append(images)
        return maps
