"""The two ends of a grid as parameters, for the algorithms that learn both; the grid holds 0 all the while.

Their gradients take the scale of LSQ (Esser et al., ICLR 2020, section 2.2), so that one learning rate suits all
learned quantizers. Without it DSQ raises the loss in its first steps at 2 bits: tests/conformance has such a training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dqss.functional import Qparams
from dqss.learned.base import positive, with_gradient_of, with_scaled_gradient
from dqss.learned.start import starting_range, starting_step

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.quantizers.base import Quantizer
    from dqss.spec import QuantSpec


class Span(nn.Module, ABC):
    """The lowest level and the distance of two levels."""

    def __init__(self, spec: QuantSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(self, factor: float) -> tuple[Tensor, Tensor]:
        """Return the (C,) lowest level and step, as functions of the parameters, whose gradients take this factor."""

    @abstractmethod
    def qparams(self) -> Qparams:
        """Return the grid as it stands."""


class SymmetricSpan(Span):
    """From quant_min to quant_max times one parameter, the step: a symmetric grid's ends are tied.

    Args:
        step: (C,), to begin with.
        spec: a symmetric grid.
    """

    def __init__(self, step: Tensor, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.step = nn.Parameter(step.detach().clone())

    def forward(self, factor: float) -> tuple[Tensor, Tensor]:
        step = with_scaled_gradient(positive(self.step), factor)
        return step * self.spec.quant_min, step

    def qparams(self) -> Qparams:
        step = positive(self.step.detach())
        return Qparams(step, torch.zeros_like(step, dtype=torch.int32), self.spec)


class AffineSpan(Span):
    """From one parameter to another. The lower is rounded to whole steps, its gradient straight-through.

    Args:
        low: (C,), to begin with.
        high: (C,).
        spec: an affine grid.
    """

    def __init__(self, low: Tensor, high: Tensor, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.low = nn.Parameter(low.detach().clone())
        self.high = nn.Parameter(high.detach().clone())

    def _step(self) -> Tensor:
        return positive((self.high - self.low) / self.spec.quant_max)

    def forward(self, factor: float) -> tuple[Tensor, Tensor]:
        grid = self.qparams()
        low = with_gradient_of(self.low, -grid.zero_point * grid.scale)
        return with_scaled_gradient(low, factor), with_scaled_gradient(self._step(), factor)

    def qparams(self) -> Qparams:
        step = self._step().detach()
        zero_point = (-self.low.detach() / step).round().clamp(0, self.spec.quant_max)
        return Qparams(step, zero_point.to(torch.int32), self.spec)


def starting_span(ranges: Quantizer, summary: TensorSummary, spec: QuantSpec) -> Span:
    """Return the span that `ranges` finds for what calibration saw."""
    if spec.symmetric:
        return SymmetricSpan(starting_step(ranges, summary, spec, signed=True), spec)
    return AffineSpan(*starting_range(ranges, summary, spec), spec)
