"""EasyQuant range: clip where the quantized tensor points most nearly in the direction of the true one.

Wu et al., "EasyQuant: Post-training Quantization via Scale Optimization" (arXiv 2006.16669), section 3: the scale of
greatest cosine similarity on a grid of scales. There the vectors compared are a layer's outputs, and weights and
inputs take turns; here, where a quantizer sees one tensor, they are that tensor and its quantization. The paper, which
is about 7 and 8 bits, keeps at least half of the range; fewer bits need less, so here every share of it is tried. Where
the error is least, q is x's projection and the angle nearly the least too: the range is often that of `mse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.quantizers.base import Quantizer
from dqss.quantizers.shrink import check_candidates, shrink, shrunken_products

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


@dataclass(frozen=True)
class EasyQuant(Quantizer):
    """Grid search over shrunken ranges, as for `mse`; the length of the quantized tensor does not count.

    Args:
        candidates: how many ranges are tried.
    """

    candidates: int = 100

    def __post_init__(self) -> None:
        check_candidates(self.candidates)

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        product, energy, square = shrunken_products(summary, spec, self.candidates)
        # Where all is rounded to 0 there is no direction: as bad as a right angle.
        return shrink(summary, 1 - torch.where(energy > 0, product / (energy * square).sqrt(), 0))
