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
        "moving-average": Entry("dqss.quantizers.moving_average:MovingAverage"),
        "percentile": Entry("dqss.quantizers.percentile:Percentile"),
        "percentile-99.99": Entry("dqss.quantizers.percentile:Percentile", options={"percent": 99.99}),
        "mse": Entry("dqss.quantizers.mse:Mse", version=2),
        "lp": Entry("dqss.quantizers.lp:Lp"),
        "admm": Entry("dqss.quantizers.admm:Admm"),
        "easyquant": Entry("dqss.quantizers.easyquant:EasyQuant"),
        "histogram": Entry("dqss.quantizers.histogram:Histogram"),
        "kl": Entry("dqss.quantizers.kl:Kl", version=2),
        "kl-tight": Entry("dqss.quantizers.kl:Kl", options={"narrowest": 0.0}),
        "aciq-gauss": Entry("dqss.quantizers.aciq:Aciq", options={"distribution": "gauss"}),
        "aciq-laplace": Entry("dqss.quantizers.aciq:Aciq", options={"distribution": "laplace"}),
    },
)
