"""Ranges that are the extremes times one factor of at most 1: the grids among which several algorithms search."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.functional import qparams_from_range

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec

Cost = Callable[[Tensor, Tensor], Tensor]
"""From (C, K) scales, in units of the summary's limit, and (C,) zero_points to (C, K) costs."""

AT_ONCE = 1 << 18
"""How many levels of grids are looked at together; it bounds the memory."""

SAME = 1e-6
"""Costs that differ by less than this part of the least are as good as each other."""


def whole(summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Return the (C,) float64 scale, in units of the summary's limit, and zero_point of the grid that clips nothing."""
    qparams = qparams_from_range(summary.low, summary.high, spec)
    return qparams.scale.double() / summary.unit, qparams.zero_point


def best_shrunken(summary: TensorSummary, spec: QuantSpec, candidates: int, cost: Cost) -> tuple[Tensor, Tensor]:
    """Return both extremes times the factor k / candidates, k = 1 ... candidates, of least cost per channel.

    A wider range wins a tie: it clips less of what calibration has not seen.
    """
    scale, zero_point = whole(summary, spec)
    factors = torch.arange(1, candidates + 1, device=scale.device).double() / candidates
    share = max(1, AT_ONCE // (len(scale) << spec.bits))
    costs = torch.cat([cost(scale[:, None] * part, zero_point) for part in factors.split(share)], dim=1)
    least = costs.amin(1, keepdim=True)
    good = costs <= least + SAME * least.abs()
    factor = torch.where(good, factors, 0).amax(1).float()
    return summary.low * factor, summary.high * factor


def check_candidates(candidates: int) -> None:
    """Raise ValueError where a search would have nothing to try."""
    if candidates < 1:
        raise ValueError(f"candidates: {candidates} is not allowed. Give at least 1.")
