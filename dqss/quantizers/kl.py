"""KL range: clip where the quantized distribution of magnitudes stays nearest to the true one.

Migacz, "8-bit Inference with TensorRT" (GTC 2017). As in NVIDIA's pytorch-quantization toolkit the first bin, which
holds the exact zeros of a ReLU, takes its neighbour's count: zero is on every grid and must not decide the range; and
the search begins at a sixteenth of the largest magnitude (there bin 128 of 2048) whatever the bits. Below it a few
bins hold a few levels, nothing is lost among them, and the divergence may be least where nearly all is clipped. But
weights with few outliers, as those of depthwise layers after folding, need such a range: in Migacz's own words the
search begins at as many bins as there are levels, and `kl-tight` does so at any bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.quantizers.base import Quantizer, clip

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


@dataclass(frozen=True)
class Kl(Quantizer):
    """Search over all thresholds on the edge of a bin that is not empty.

    At an empty bin the divergence is infinite: what is clipped is counted there, where nothing was kept.

    Args:
        narrowest: the least range that is tried, as a share of the whole; never less than a bin for each level.
    """

    narrowest: float = 1 / 16

    def __post_init__(self) -> None:
        if not 0 <= self.narrowest <= 1:
            raise ValueError(f"narrowest: {self.narrowest} is not allowed. Give a number from 0 to 1.")

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        magnitudes = summary.magnitudes
        # An affine grid gives all its levels to one sign where the values have one.
        one_sided = (summary.low >= 0) | (summary.high <= 0)
        kept = [
            bins_kept(
                histogram.double(),
                2 ** (spec.bits if one and not spec.symmetric else spec.bits - 1),
                self.narrowest,
            )
            for histogram, one in zip(magnitudes, one_sided.tolist(), strict=True)
        ]
        return clip(summary, summary.limit * torch.tensor(kept, device=summary.limit.device) / magnitudes.shape[1])


def bins_kept(histogram: Tensor, levels: int, narrowest: float) -> int:
    """Return how many bins of a (B,) histogram of magnitudes to keep; at least this share, and one for each level."""
    histogram = histogram[: int(histogram.nonzero().max()) + 1]
    # Zeros alone. Else at least half of the bins are left, more than any grid has levels: see TensorSummary.
    if len(histogram) == 1:
        return 1
    histogram[0] = histogram[1]
    stops = histogram.nonzero().flatten() + 1
    stops = stops[stops >= max(levels, len(histogram) * narrowest)]
    found = divergences(histogram, stops, levels)
    # A wider range wins a tie.
    return int(stops[len(found) - 1 - int(found.flip(0).argmin())])


def divergences(histogram: Tensor, stops: Tensor, levels: int) -> Tensor:
    """Return KL(P || Q) per stop: P the histogram with all beyond counted in the last bin kept, Q its quantization.

    In an even share of the bins each level spreads its mass over those that are not empty. As Q is constant there,
    the sum of p log q over bins is one over levels, and running sums give it for all stops at once.

    Args:
        histogram: (B,) float64 counts of magnitudes.
        stops: (S,) how many bins are kept; at least `levels`, the last of them not empty.
        levels: Q's number of levels.

    Returns:
        (S,) float64.
    """
    count = running(histogram)
    filled = running((histogram > 0).double())
    entropy = running(torch.special.xlogy(histogram, histogram))
    whole, last = count[-1], histogram[stops - 1]
    clipped = whole - count[stops]
    own = entropy[stops] - torch.special.xlogy(last, last) + torch.special.xlogy(last + clipped, last + clipped)
    # Bin i belongs to level i * levels // stop, which begins at the ceiling of level * stop / levels.
    edges = -(-torch.arange(levels + 1, device=stops.device) * stops[:, None] // levels)
    mass, bins = count[edges].diff(dim=1), filled[edges].diff(dim=1)
    spread = torch.where(mass > 0, torch.log(mass / bins.clamp(min=1)), 0)
    mass[:, -1] += clipped
    found: Tensor = (own - (mass * spread).sum(1)) / whole + torch.log(count[stops] / whole)
    return found


def running(x: Tensor) -> Tensor:
    """Return (B + 1,), the sums of the first 0, 1, ..., B values."""
    return torch.cat([x.new_zeros(1), x.cumsum(0)])
