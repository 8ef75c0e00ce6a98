"""The interface of a reconstruction: from a layer and the second moment of its inputs to a quantized weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.graph import Layer
    from dqss.spec import QuantSpec


class Reconstruction(ABC):
    """One algorithm. A subclass is a frozen dataclass whose fields are the algorithm's options; it keeps no data.

    A layer is reconstructed for itself, from its inputs in the full-precision model, so that candidates of different
    layers do not depend on each other and any may be combined in a strategy.
    """

    @abstractmethod
    def quantized(self, layer: Layer, summary: TensorSummary, spec: QuantSpec, second_moment: Tensor) -> Tensor:
        """Return the layer's weight on a grid, in float; the same arguments give the same weight, bit for bit.

        Args:
            layer: in full precision; it is not changed.
            summary: of its weight.
            spec: the grid that the weight shall lie on.
            second_moment: (groups, d, d), of the layer's inputs, as `dqss.moments.second_moments` gives it.
        """
