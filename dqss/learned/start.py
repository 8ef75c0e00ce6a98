"""Where a learned quantizer begins: ranges that a PTQ algorithm reads off the calibration's summary."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.quantizers.base import Quantizer
    from dqss.spec import QuantSpec


def is_signed(summary: TensorSummary, spec: QuantSpec) -> bool:
    """Return whether activations need a signed grid: they fell below 0 in calibration, or the protocol's is one."""
    return spec.symmetric or bool((summary.low < 0).any())


def middle(spec: QuantSpec) -> int:
    """Return the zero_point that makes a grid signed: 0 of a symmetric one.

    >>> from dqss.spec import QuantSpec
    >>> middle(QuantSpec(4, symmetric=True)), middle(QuantSpec(4, symmetric=False))
    (0, 8)
    """
    return spec.quant_min + (1 << (spec.bits - 1))


def starting_step(ranges: Quantizer, summary: TensorSummary, spec: QuantSpec, signed: bool) -> Tensor:
    """Return the (C,) distance of two levels, of a signed grid or of one with no level below 0."""
    return ranges.qparams(summary, replace(spec, symmetric=signed)).scale


def starting_range(ranges: Quantizer, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Return the (C,) lowest and highest levels of the grid."""
    grid = ranges.qparams(summary, spec)
    return (spec.quant_min - grid.zero_point) * grid.scale, (spec.quant_max - grid.zero_point) * grid.scale


def check_seen(summary: TensorSummary) -> None:
    """Raise ValueError where calibration saw no value."""
    if len(summary.low) == 0:
        raise ValueError("summary: it has seen no value, so there is no range. Calibrate on a tensor with values.")


def spread(summary: TensorSummary) -> tuple[Tensor, Tensor]:
    """Return the (C,) mean and standard deviation of all values seen, to the histogram's precision."""
    count, total, square = summary.totals
    mean = total / count
    deviation = (square / count - mean.square()).clamp(min=0).sqrt()
    return (mean * summary.limit).float(), (deviation * summary.limit).float()


def zeros_as_ones(values: Tensor) -> Tensor:
    """Return the values with 1 in place of 0, for what is divided by them: where all is 0, any scale does."""
    return torch.where(values > 0, values, torch.ones_like(values))
