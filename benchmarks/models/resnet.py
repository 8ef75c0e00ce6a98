"""The CIFAR family of residual networks: 6n+2 layers, three stages of 16, 32 and 64 channels.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2, with its parameter-free
shortcuts (option A).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that subsamples and pads channels where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.padding:
            half = self.padding // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.padding - half))
        return F.relu(out + x)


class CifarResNet(nn.Module):
    """(B, in_channels, H, W) to (B, classes).

    Args:
        blocks: n, the blocks in each of the three stages; the network has 6n+2 layers.
    """

    def __init__(self, blocks: int, in_channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages = []
        width = 16
        for channels, stride in ((16, 1), (32, 2), (64, 2)):
            layers = [BasicBlock(width, channels, stride)]
            layers += [BasicBlock(channels, channels, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*layers))
            width = channels
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class ResNet8(CifarResNet):
    """n = 1."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(1, in_channels, classes)


class ResNet20(CifarResNet):
    """n = 3."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(3, in_channels, classes)
