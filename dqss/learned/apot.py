"""APoT: levels that are sums of powers of two, denser near 0, within a learned clip.

Li et al., "Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for Neural Networks" (ICLR
2020), the section on additive powers of two: with base bit-width 2, a magnitude of 2 n bits is a sum of n terms, each 0
or one of three powers of two; an odd bit is one more term of one power. The section on the reparameterized clipping
function: the clip alpha is learned, its gradient is that of rounding where a value lies within, and 1 or -1 beyond. The
section on weight normalization: weights are normalised.

One bit of a signed tensor, as all weights are, is its sign. The levels are not evenly spaced, so no integers can be
deployed and `qparams` is refused. Normalisation divides by the standard deviation and, since batch normalisation
is folded here, multiplies by it again afterwards; the mean stays in the weights for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from dqss.learned.base import Learned, LearnedQuantizer, positive, with_gradient_of
from dqss.learned.start import check_seen, is_signed, zeros_as_ones

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class PowersOfTwo(LearnedQuantizer):
    """Levels of additive powers of two, times a learned clip.

    Args:
        alpha: (C,), the clip to begin with.
        signed: whether there are levels below 0.
    """

    levels: Tensor

    def __init__(self, alpha: Tensor, signed: bool, spec: QuantSpec) -> None:
        super().__init__(spec)
        self.alpha = nn.Parameter(alpha.detach().clone())
        self.register_buffer("levels", levels_of(spec.bits, signed))

    def quantized(self, x: Tensor, features: int) -> Tensor:
        return self.within(x, self.expanded(positive(self.alpha), x))

    def within(self, x: Tensor, clip: Tensor) -> Tensor:
        """Return `x` clipped and rounded to the levels times `clip`."""
        bounded = (x / clip).clamp(float(self.levels[0]), 1)
        return with_gradient_of(bounded, nearest(bounded.detach(), self.levels.to(x.dtype))) * clip


class NormalisedPowersOfTwo(PowersOfTwo):
    """Likewise for weights, with the clip in units of their standard deviation, which takes no gradient."""

    def quantized(self, x: Tensor, features: int) -> Tensor:
        if x.numel() == 0:
            return x
        deviation = zeros_as_ones(self.by_channel(x.detach()).std(1, correction=0))
        return self.within(x, self.expanded(positive(self.alpha) * deviation, x))


@dataclass(frozen=True)
class Apot(Learned):
    """Additive powers of two, for weights and activations. The first clip is that of least squared error.

    Args:
        candidates: how many clips are tried: the largest magnitude times k / candidates, k = 1 ... candidates.
    """

    uniform: ClassVar[bool] = False

    candidates: int = 50

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates: {self.candidates} is not allowed. Give at least 1.")

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        clip = self._first_clip(summary, levels_of(spec.bits, signed=True))
        quantizer = NormalisedPowersOfTwo(clip, True, spec)
        deviation = zeros_as_ones(quantizer.by_channel(weight.detach().float()).std(1, correction=0))
        with torch.no_grad():
            quantizer.alpha.div_(deviation)
        return quantizer

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        signed = is_signed(summary, spec)
        return PowersOfTwo(self._first_clip(summary, levels_of(spec.bits, signed)), signed, spec)

    def _first_clip(self, summary: TensorSummary, levels: Tensor) -> Tensor:
        """Return the (C,) clip of least squared error on the histogram; 1 where all is 0."""
        check_seen(summary)
        middles, counts = summary.occupied
        levels = levels.double()
        clips = summary.reach.double()[:, None] * torch.arange(1, self.candidates + 1) / self.candidates
        errors = []
        for clip in clips.T:
            unit = zeros_as_ones(clip)[:, None]
            kept = nearest((middles / unit).clamp(float(levels[0]), 1), levels) * unit
            errors.append((counts * (kept - middles).square()).sum(1))
        best = torch.stack(errors).argmin(0)
        return zeros_as_ones(clips.gather(1, best[:, None])[:, 0].float())


def levels_of(bits: int, signed: bool) -> Tensor:
    """Return the levels in ascending order, the largest 1.

    >>> levels_of(2, signed=False)
    tensor([0.0000, 0.2500, 0.5000, 1.0000])
    >>> levels_of(3, signed=True)
    tensor([-1.0000, -0.5000, -0.2500,  0.0000,  0.2500,  0.5000,  1.0000])
    """
    bits = bits - 1 if signed else bits
    terms = bits // 2
    powers = [[-(terms * i + j + 1) for i in range(3)] for j in range(terms)]
    if bits % 2:
        # The odd bit's power stands before the last of each other term, which moves one further down.
        powers = [[first, second, third - 1] for first, second, third in powers] + [[-(2 * terms + 1)]]
    sums = torch.tensor(sorted({sum(term) for term in product(*([0.0, *(2.0**p for p in term)] for term in powers))}))
    magnitudes = sums / sums[-1]
    return torch.cat([-magnitudes[1:].flip(0), magnitudes]) if signed else magnitudes


def nearest(x: Tensor, levels: Tensor) -> Tensor:
    """Return the level next to each value; the lower of two that are as near."""
    return levels[torch.bucketize(x, (levels[:-1] + levels[1:]) / 2)]
