from dataclasses import dataclass

import pytest
import torch
from torch import Generator, Tensor, nn

from dqss.calibrate import TensorSummary, calibrate
from dqss.graph import prepare
from dqss.ptq import pose
from dqss.quantizers import QUANTIZERS
from dqss.quantizers.base import Quantizer
from dqss.search.base import SearchProblem, no_report
from dqss.spec import PROTOCOLS, Bits, QuantSpec


@pytest.fixture
def problem(tiny, batches) -> SearchProblem:
    """Three candidates for weights, two for activations, at 3 bits, where they differ."""
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits(3, 3))
    calibration = calibrate(prepared, batches, no_report)
    weights = {name: QUANTIZERS.create(name) for name in ("percentile", "minmax", "mse")}
    activations = {name: QUANTIZERS.create(name) for name in ("mse", "minmax")}
    return pose(prepared, calibration, batches, weights, activations, None)


@dataclass(frozen=True)
class Step(Quantizer):
    """A four-bit grid of a given step, whatever the tensor: integers for weights, naturals for activations."""

    step: float

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        widest = self.step * torch.ones_like(summary.low)
        # A symmetric grid ends half a step above its last level.
        return (-7.5 * widest, 7.5 * widest) if spec.symmetric else (0 * widest, 15 * widest)


STEPS = (1.0, 4.0, 16.0)


class Branches(nn.Module):
    """Three layers side by side; for each pair of candidates one of them is exact, and the products weigh alike."""

    def __init__(self) -> None:
        super().__init__()
        generator = Generator().manual_seed(3)
        self.layers = nn.ModuleList(nn.Linear(6, 4, bias=False) for _ in STEPS)
        for layer, step in zip(self.layers, STEPS, strict=True):
            layer.weight.data = step * torch.randint(-8, 8, (4, 6), generator=generator).float()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.layers[0](16 * x), self.layers[1](4 * x), self.layers[2](x)], 1)


@pytest.fixture(scope="module")
def planted() -> SearchProblem:
    """A problem whose best strategy, ((0, 2), (1, 1), (2, 0)), is exact; every other choice of a layer has an error."""
    batches = torch.randint(0, 16, (4, 8, 6), generator=Generator().manual_seed(1)).float().unbind()
    prepared = prepare(Branches(), PROTOCOLS["all-layers"], Bits(4, 4))
    candidates = {f"step{step:.0f}": Step(step) for step in STEPS}
    return pose(prepared, calibrate(prepared, batches, no_report), batches, candidates, candidates, "mse")
