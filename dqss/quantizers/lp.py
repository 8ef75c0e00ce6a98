"""Lp range: clip where the sum of |error|^p is least.

Nahshan et al., "Loss Aware Post-training Quantization" (arXiv 1911.07190), the first, layer-wise phase: each step size
minimises the p-norm of its error. The paper runs through several p from 2 to 4 and goes on from there by the network's
loss; one range needs one p. The default 2.4 is that of BRECQ's and QDrop's published code, not of this paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.quantizers.base import Quantizer
from dqss.quantizers.shrink import AT_ONCE, check_candidates, factors, shrink, whole

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


@dataclass(frozen=True)
class Lp(Quantizer):
    """Grid search over shrunken ranges, as for `mse`; a higher p clips less.

    Args:
        p: the exponent, above 0.
        candidates: how many ranges are tried.
    """

    p: float = 2.4
    candidates: int = 100

    def __post_init__(self) -> None:
        check_candidates(self.candidates)
        if not self.p > 0:
            raise ValueError(f"p: {self.p} is not allowed. Give a number above 0.")

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        middles, counts = summary.occupied
        middles = (middles / summary.unit[:, None]).float()

        scale, zero_point = whole(summary, spec)
        low, high = ((end - zero_point)[:, None, None].float() for end in (spec.quant_min, spec.quant_max))
        steps = scale[:, None] * factors(self.candidates).to(scale.device)
        sums = []
        for part in steps.float().split(max(1, AT_ONCE // middles.numel()), dim=1):
            x = middles[:, None] / part[..., None]
            # clamp_ between tensors is slower than these two.
            code = x.round()
            torch.minimum(torch.maximum(code, low, out=code), high, out=code)
            off = code.sub_(x).abs_().pow_(self.p)
            sums.append((counts[:, None] * off).sum(2))
        return shrink(summary, torch.cat(sums, dim=1) * steps**self.p)
