"""EDSR, scaled down: residual blocks without batch normalisation, a skip around all of them, a pixel-shuffle tail.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution" (CVPRW 2017), section 3 and figure 3:
the baseline, without residual scaling, with 5 blocks of 24 channels in place of 16 of 64.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models.luma import MEAN, doublings


def conv(in_channels: int, channels: int) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, channels, 3, padding=1)


class Block(nn.Module):
    """Two convolutions and a shortcut, after which there is no activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.relu(self.conv1(x)))
        return out + x


class EdsrSmall(nn.Module):
    """(B, in_channels, H, W), luma over 255, to (B, in_channels, scale H, scale W); scale is 2 or 4."""

    def __init__(self, in_channels: int, scale: int) -> None:
        super().__init__()
        width, blocks = 24, 5
        self.head = conv(in_channels, width)
        self.body = nn.Sequential(*(Block(width) for _ in range(blocks)), conv(width, width))
        self.tail = nn.Sequential()
        for _ in range(doublings(scale)):
            self.tail.extend([conv(width, 4 * width), nn.PixelShuffle(2)])
        self.tail.append(conv(width, in_channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x - MEAN)
        enlarged: Tensor = self.tail(self.body(x) + x)
        return enlarged + MEAN
