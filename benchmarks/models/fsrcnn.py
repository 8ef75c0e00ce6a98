"""FSRCNN: features are shrunk, mapped and expanded at low resolution; a transposed convolution enlarges.

Dong, Loy, Tang, "Accelerating the Super-Resolution Convolutional Neural Network" (ECCV 2016), section 3:
FSRCNN(d = 56, s = 12, m = 4), a PReLU after every convolution. As there, weights begin as in He et al., "Delving Deep
into Rectifiers" (ICCV 2015), those of the transposed convolution near zero. Not the paper's: the mean is subtracted.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.models.luma import MEAN

FEATURES, SHRUNKEN, MAPPINGS = 56, 12, 4
SLOPE = 0.25
"""Of a PReLU below zero, before training."""


class Fsrcnn(nn.Module):
    """(B, in_channels, H, W), luma over 255, to (B, in_channels, scale H, scale W)."""

    def __init__(self, in_channels: int, scale: int) -> None:
        super().__init__()
        self.extract = nn.Sequential(nn.Conv2d(in_channels, FEATURES, 5, padding=2), nn.PReLU(FEATURES))
        self.shrink = nn.Sequential(nn.Conv2d(FEATURES, SHRUNKEN, 1), nn.PReLU(SHRUNKEN))
        self.map = nn.Sequential()
        for _ in range(MAPPINGS):
            self.map.extend([nn.Conv2d(SHRUNKEN, SHRUNKEN, 3, padding=1), nn.PReLU(SHRUNKEN)])
        self.expand = nn.Sequential(nn.Conv2d(SHRUNKEN, FEATURES, 1), nn.PReLU(FEATURES))
        self.enlarge = nn.ConvTranspose2d(FEATURES, in_channels, 9, scale, padding=4, output_padding=scale - 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, SLOPE)
        nn.init.normal_(self.enlarge.weight, std=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(self.map(self.shrink(self.extract(x - MEAN))))
        enlarged: Tensor = self.enlarge(x)
        return enlarged + MEAN
