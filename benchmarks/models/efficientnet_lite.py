"""EfficientNet-Lite0: EfficientNet without squeeze-and-excitation and with ReLU6, for ImageNet at 224 x 224.

Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019); the Lite variants are
those of github.com/tensorflow/tpu. Layers are named as in the package efficientnet-lite-pytorch, whose trained weights
fit.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

# expansion, channels, blocks, kernel, stride of the first block: table 1 of the paper.
LITE0 = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
EPSILON = 1e-3


class SamePadding(nn.ZeroPad2d):
    """TensorFlow's padding for an input of even size: where an odd number of rows is needed, one more at the end."""

    def __init__(self, kernel: int, stride: int) -> None:
        needed = kernel - stride
        super().__init__((needed // 2, needed - needed // 2) * 2)


def conv(in_channels: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias or padding."""
    return nn.Conv2d(in_channels, channels, kernel, stride, groups=groups, bias=False)


class Block(nn.Module):
    """Expand by 1x1, filter depthwise, project by 1x1 without activation."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = conv(in_channels, hidden)
            self._bn0 = nn.BatchNorm2d(hidden, EPSILON)
        self.padding = SamePadding(kernel, stride)
        self._depthwise_conv = conv(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = nn.BatchNorm2d(hidden, EPSILON)
        self._project_conv = conv(hidden, channels)
        self._bn2 = nn.BatchNorm2d(channels, EPSILON)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        out = F.relu6(self._bn1(self._depthwise_conv(self.padding(out))))
        out = self._bn2(self._project_conv(out))
        return out + x if self.residual else out


class EfficientNetLite0(nn.Module):
    """(B, in_channels, H, W), H and W multiples of 32, to (B, classes)."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        width, head = 32, 1280
        self.padding = SamePadding(3, 2)
        self._conv_stem = conv(in_channels, width, 3, 2)
        self._bn0 = nn.BatchNorm2d(width, EPSILON)
        self._blocks = nn.Sequential()
        for expansion, channels, blocks, kernel, stride in LITE0:
            for block in range(blocks):
                self._blocks.append(Block(width, channels, kernel, 1 if block else stride, expansion))
                width = channels
        self._conv_head = conv(width, head)
        self._bn1 = nn.BatchNorm2d(head, EPSILON)
        self._fc = nn.Linear(head, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(self.padding(x))))
        x = F.relu6(self._bn1(self._conv_head(self._blocks(x))))
        logits: Tensor = self._fc(x.mean((2, 3)))
        return logits
