"""ESPCN: a small network at low resolution whose last convolution gives all sub-pixels of an output pixel.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
Network" (CVPR 2016), section 3: f1 = 5, n1 = 64, f2 = 3, n2 = 32, f3 = 3. The activation is tanh, as in the paper's
final model, which compares it with ReLU. Not the paper's: the mean is subtracted, and weights begin as in Glorot and
Bengio, "Understanding the Difficulty of Training Deep Feedforward Neural Networks" (AISTATS 2010).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.models.luma import MEAN


class Espcn(nn.Module):
    """(B, in_channels, H, W), luma over 255, to (B, in_channels, scale H, scale W)."""

    def __init__(self, in_channels: int, scale: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, in_channels * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.xavier_normal_(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv1(x - MEAN))
        x = torch.tanh(self.conv2(x))
        enlarged: Tensor = self.shuffle(self.conv3(x))
        return enlarged + MEAN
