"""SRResNet, scaled down: residual blocks with batch normalisation and PReLU, and a pixel-shuffle tail.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network" (CVPR 2017),
section 2.1 and figure 4: the generator, with 4 blocks of 24 channels in place of 16 of 64. Not the paper's: the mean is
subtracted, and residual branches begin at zero, as in Goyal et al., "Accurate, Large Minibatch SGD" (arXiv 1706.02677),
section 5.1. Else their normalised outputs drown the image, whose features are small.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.models.luma import MEAN, doublings


def conv(in_channels: int, channels: int, kernel: int = 3) -> nn.Conv2d:
    """Return a convolution that keeps the size."""
    return nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2)


def conv_bn(channels: int, gain: float) -> list[nn.Module]:
    """Return a 3x3 convolution and its batch normalisation, which begins with this gain."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, gain)
    return [nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm]


class Block(nn.Module):
    """Two normalised convolutions with a PReLU between, and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*conv_bn(channels, 1.0), nn.PReLU(channels), *conv_bn(channels, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out + x


class SrResNetSmall(nn.Module):
    """(B, in_channels, H, W), luma over 255, to (B, in_channels, scale H, scale W); scale is 2 or 4."""

    def __init__(self, in_channels: int, scale: int) -> None:
        super().__init__()
        width, blocks = 24, 4
        self.head = nn.Sequential(conv(in_channels, width, 9), nn.PReLU(width))
        self.body = nn.Sequential(*(Block(width) for _ in range(blocks)), *conv_bn(width, 0.0))
        self.tail = nn.Sequential()
        for _ in range(doublings(scale)):
            self.tail.extend([conv(width, 4 * width), nn.PixelShuffle(2), nn.PReLU(width)])
        self.tail.append(conv(width, in_channels, 9))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x - MEAN)
        enlarged: Tensor = self.tail(self.body(x) + x)
        return enlarged + MEAN
