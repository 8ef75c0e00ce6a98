"""Ranges that are the extremes times one factor of at most 1: the grids among which several algorithms search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.functional import qparams_from_range

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec

AT_ONCE = 1 << 16
"""How many levels of grids, or errors, are looked at together; it bounds the memory."""

SAME = 1e-6
"""Costs that differ by less than this part of the least are as good as each other."""


def whole(summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Return the (C,) float64 scale, in units of the summary's limit, and zero_point of the grid that clips nothing."""
    qparams = qparams_from_range(summary.low, summary.high, spec)
    return qparams.scale.double() / summary.unit, qparams.zero_point


def factors(candidates: int) -> Tensor:
    """Return the (K,) factors tried: k / candidates, k = 1 ... candidates."""
    return torch.arange(1, candidates + 1).double() / candidates


def products(summary: TensorSummary, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """Return what the values x, quantized to q, sum up to: x q and q q.

    Args:
        summary: of C channels.
        scale: (C, K), in units of the summary's limit.
        zero_point: (C,).
        spec: the grid.

    Returns:
        (C, K) both, in units of the limit's square.
    """
    codes = torch.arange(spec.quant_min, spec.quant_max, device=scale.device) - zero_point[:, None].double()
    boundaries = (codes[:, None] + 0.5) * scale[..., None]
    count, total = summary.moments(boundaries, highest=1)
    every, whole_sum, _ = summary.totals[..., None]
    # By parts: as if all had the last level, less a step for each boundary that a value lies below.
    last = (spec.quant_max - zero_point[:, None]) * scale
    return last * whole_sum - scale * total.sum(2), last**2 * every - 2 * scale * count.mul_(boundaries).sum(2)


def shrunken_products(summary: TensorSummary, spec: QuantSpec, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `products` of every shrunken range and, (C, 1), the sum of x x; the summary keeps them."""
    key = (spec, candidates)
    if key not in summary.shrunken:
        scale, zero_point = whole(summary, spec)
        steps = scale[:, None] * factors(candidates).to(scale.device)
        share = max(1, AT_ONCE // (len(scale) << spec.bits))
        parts = [products(summary, part, zero_point, spec) for part in steps.split(share, dim=1)]
        product, energy = (torch.cat(found, dim=1) for found in zip(*parts, strict=True))
        square = summary.totals[2, :, None]
        summary.shrunken[key] = (product, energy, square)
    return summary.shrunken[key]


def shrink(summary: TensorSummary, costs: Tensor) -> tuple[Tensor, Tensor]:
    """Return both extremes times the factor of least cost per channel.

    A wider range wins a tie: it clips less of what calibration has not seen.

    Args:
        summary: of C channels.
        costs: (C, K), for each of the K `factors`.
    """
    least = costs.amin(1, keepdim=True)
    good = costs <= least + SAME * least.abs()
    factor = torch.where(good, factors(costs.shape[1]).to(costs.device), 0).amax(1).float()
    return summary.low * factor, summary.high * factor


def check_candidates(candidates: int) -> None:
    """Raise ValueError where a search would have nothing to try."""
    if candidates < 1:
        raise ValueError(f"candidates: {candidates} is not allowed. Give at least 1.")
