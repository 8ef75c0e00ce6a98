"""The interface of a quantizer: from what calibration saw of a tensor to the range that its grid covers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.functional import Qparams, qparams_from_range

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class Quantizer(ABC):
    """One algorithm. A subclass is a frozen dataclass whose fields are the algorithm's options; it keeps no data.

    Life cycle: a TensorSummary is filled by the one calibration pass; each quantizer reads it, and none changes it.
    """

    @abstractmethod
    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        """Return the (C,) lower and upper ends of the range that the grid shall cover."""

    def qparams(self, summary: TensorSummary, spec: QuantSpec) -> Qparams:
        """Return the grid for a tensor with this summary, which keeps it for the next who asks.

        Raises:
            ValueError: the summary has seen no value.
        """
        if len(summary.low) == 0:
            raise ValueError("summary: it has seen no value, so there is no range. Calibrate on a tensor with values.")
        key = (self, spec)
        if key not in summary.grids:
            low, high = self.range(summary, spec)
            summary.grids[key] = qparams_from_range(low, high, spec)
        return summary.grids[key]


def clip(summary: TensorSummary, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Return the extremes, cut to [-threshold, threshold]."""
    return torch.maximum(summary.low, -threshold), torch.minimum(summary.high, threshold)
