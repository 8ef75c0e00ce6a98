from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dqss.calibrate import TensorSummary


@pytest.fixture
def summarise() -> Callable[..., TensorSummary]:
    def summarise(*batches: Tensor, axis: int | None = None) -> TensorSummary:
        summary = TensorSummary(axis)
        for batch in batches:
            summary.update(batch)
        return summary

    return summarise


class Tiny(nn.Module):
    """What preparation meets: batch normalisation, a depthwise layer, a shortcut, a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = x + self.depthwise(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def tiny() -> nn.Module:
    """A network with random weights and batch statistics as after training, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Tiny()
        norm = network.stem_norm
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.normal_()
    return network


@pytest.fixture
def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, 2, 5, 5, generator=generator) for count in (4, 4, 2)]
