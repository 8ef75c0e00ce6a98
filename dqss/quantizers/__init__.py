"""The algorithms that choose a tensor's range, for weights and activations alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqss.registry import Entry, Registry

if TYPE_CHECKING:
    from dqss.quantizers.base import Quantizer

QUANTIZERS: Registry[Quantizer] = Registry(
    "quantizer",
    "dqss.quantizers.base:Quantizer",
    {
        "minmax": Entry("dqss.quantizers.minmax:MinMax"),
        "percentile": Entry("dqss.quantizers.percentile:Percentile"),
        "mse": Entry("dqss.quantizers.mse:Mse"),
        "kl": Entry("dqss.quantizers.kl:Kl"),
    },
)
