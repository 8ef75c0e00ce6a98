"""MobileNetV2 for images of about 32 pixels: inverted residuals with linear bottlenecks.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018), section 3, with fewer and narrower
blocks and a first convolution of stride 1.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

# expansion, channels, blocks, stride of the first block: table 2 of the paper, scaled down.
SMALL = ((1, 16, 1, 2), (4, 24, 3, 1), (4, 40, 3, 2), (4, 64, 2, 1))


def conv_bn(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the size (but for its stride) and its batch normalisation."""
    conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter by depthwise 3x3, project by 1x1 without activation."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [*conv_bn(in_channels, hidden, 1), nn.ReLU6()]
        layers += [*conv_bn(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6()]
        layers += conv_bn(hidden, channels, 1)
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class MobileNetV2Small(nn.Module):
    """(B, in_channels, H, W) to (B, classes)."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        width = 16
        layers = [*conv_bn(in_channels, width, 3), nn.ReLU6()]
        for expansion, channels, blocks, stride in SMALL:
            for block in range(blocks):
                layers.append(InvertedResidual(width, channels, 1 if block else stride, expansion))
                width = channels
        layers += [*conv_bn(width, 128, 1), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return logits
