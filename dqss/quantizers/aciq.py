"""ACIQ range: the clipping that is optimal for a bell curve of the tensor's spread.

Banner et al., "Post training 4-bit quantization of convolutional networks for rapid-deployment" (NeurIPS 2019),
section 3 and its appendix. With M bits, clipping at alpha on both sides costs what is cut off and, within, a rounding
error of alpha^2 / (3 * 4^M) per value. Here the root of that sum's derivative is found numerically.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from dqss.quantizers.base import Quantizer, clip

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec

Distribution = Literal["gauss", "laplace"]


@dataclass(frozen=True)
class Aciq(Quantizer):
    """Mean +- alpha, cut to the extremes; on a symmetric grid 0 +- alpha.

    Values of one sign, as behind a ReLU, are half of a curve about 0. All levels of an affine grid then lie on that
    side, as they would with one bit more on two sides. Exact zeros, half of the curve cut off, are left out of its
    spread.

    Args:
        distribution: `gauss`, whose spread is the standard deviation, or `laplace`, the mean absolute deviation.
    """

    distribution: Distribution = "gauss"

    def __post_init__(self) -> None:
        if self.distribution not in get_args(Distribution):
            allowed = " or ".join(map(repr, get_args(Distribution)))
            raise ValueError(f"distribution: {self.distribution!r} is not allowed. Give {allowed}.")

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        one_sided = (summary.low >= 0) | (summary.high <= 0)
        centred = one_sided if not spec.symmetric else torch.ones_like(one_sided)
        clipping = {bits: optimal_clipping(self.distribution, bits) for bits in (spec.bits, spec.bits + 1)}
        bits_more = one_sided & (not spec.symmetric)
        factor = torch.where(bits_more, clipping[spec.bits + 1], clipping[spec.bits])
        mean, about_mean = self._spread(summary)
        about_zero = self._spread_about_zero(summary, one_sided)
        alpha = factor * torch.where(centred, about_zero, about_mean)
        low, high = clip(summary, alpha.float())
        mean, alpha = mean.float(), alpha.float()
        return (
            torch.where(centred, low, torch.maximum(summary.low, mean - alpha)),
            torch.where(centred, high, torch.minimum(summary.high, mean + alpha)),
        )

    def _spread(self, summary: TensorSummary) -> tuple[Tensor, Tensor]:
        """Return the (C,) mean and the spread about it."""
        unit = summary.limit.double()
        count, total, square = summary.totals
        mean = total / count
        if self.distribution == "gauss":
            return mean * unit, (square / count - mean**2).clamp(min=0).sqrt() * unit
        below_count, below_total, _ = summary.moments(mean[:, None])[..., 0]
        return mean * unit, (mean * below_count - below_total).clamp(min=0) * 2 / count * unit

    def _spread_about_zero(self, summary: TensorSummary, one_sided: Tensor) -> Tensor:
        """Return the (C,) spread of magnitudes; of values of one sign without those in the first bin, the zeros'."""
        magnitudes = summary.magnitudes.double()
        # On a CPU ten times as fast as `any`.
        others = (magnitudes[:, 1:].sum(1) > 0) & one_sided
        magnitudes[:, 0] = torch.where(others, 0, magnitudes[:, 0])
        bins = magnitudes.shape[1]
        middles = (torch.arange(bins, device=magnitudes.device).double() + 0.5) / bins
        power = 2 if self.distribution == "gauss" else 1
        mean = (magnitudes * middles**power).sum(1) / magnitudes.sum(1)
        return mean ** (1 / power) * summary.limit.double()


@cache
def optimal_clipping(distribution: Distribution, bits: int) -> float:
    """Return alpha in units of the spread, where the derivative of the expected squared error is 0.

    Laplace: exp(-t) = t / (3 * 4^bits). Gauss: 2 (phi(t) - t Q(t)) = t / (3 * 4^bits), Q the upper tail.

    >>> round(optimal_clipping("laplace", 4), 2), round(optimal_clipping("gauss", 4), 2)
    (5.03, 2.56)
    """
    cut = _cut_off[distribution]
    below, above = 0.0, 64.0
    for _ in range(80):
        middle = (below + above) / 2
        if cut(middle) > middle / (3 * 4**bits):
            below = middle
        else:
            above = middle
    return below


def _gauss_cut_off(t: float) -> float:
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    return 2 * (density - t * math.erfc(t / math.sqrt(2)) / 2)


_cut_off: dict[str, Callable[[float], float]] = {"laplace": lambda t: math.exp(-t), "gauss": _gauss_cut_off}
