"""Where a learned quantizer begins: ranges that a PTQ algorithm reads off the calibration's summary."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.quantizers.base import Quantizer
    from dqss.spec import QuantSpec


def is_signed(summary: TensorSummary, spec: QuantSpec) -> bool:
    """Return whether activations need a signed grid: they fell below 0 in calibration, or the protocol's is one."""
    return spec.symmetric or bool((summary.low < 0).any())


def starting_step(ranges: Quantizer, summary: TensorSummary, spec: QuantSpec, signed: bool) -> Tensor:
    """Return the (C,) distance of two levels, of a grid with as many levels below 0 as above, or with none below."""
    return ranges.qparams(summary, replace(spec, symmetric=signed)).scale
