"""ADMM range: scale and integer codes by turns, each the least-squares answer to the other.

Leng et al., "Extremely Low Bit Neural Network: Squeeze the Last Bit Out with ADMM" (AAAI 2018), the projection step:
for fixed codes q the scale that minimises ||x - s q||^2 is x.q / q.q; for a fixed scale the codes are x / s, rounded.
An affine grid keeps its zero_point, so q counts from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.quantizers.base import Quantizer
from dqss.quantizers.shrink import products, whole

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


@dataclass(frozen=True)
class Admm(Quantizer):
    """Descent from the whole range to the nearest scale that is its own answer; a global search is `mse`.

    Args:
        turns: how often both are renewed, at most; a channel whose scale moves by less than a ten-thousandth is done.
    """

    turns: int = 20

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ValueError(f"turns: {self.turns} is not allowed. Give at least 1.")

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        widest, zero_point = whole(summary, spec)
        scale = widest
        moving = torch.ones_like(scale, dtype=torch.bool)
        for _ in range(self.turns):
            product, energy = products(summary, scale[:, None], zero_point, spec)
            # Both hold the scale already, hence a factor. Never wider than what was seen.
            factor = torch.where(energy > 0, product / energy, 1).squeeze(1)
            renewed = torch.where(moving, torch.minimum(scale * factor, widest), scale)
            moving = (renewed - scale).abs() > 1e-4 * scale
            scale = renewed
            if not moving.any():
                break
        shrink = (scale / widest).float()
        return summary.low * shrink, summary.high * shrink
